//! One scenario for a kiosk that runs: start, restart, reload, crash, hang, a camera that goes and comes, a broker that does, a
//! full disk, a clock that jumps, a power cut.
//!
//! `ANEMIA_HIL=vm` runs it against an emulated kiosk (tests/vm), `ANEMIA_HIL=arm` against one with an ARM processor,
//! `ANEMIA_HIL=screen` against one that has a screen and a browser, of which only the page is looked at, and
//! `ANEMIA_HIL=user@host` against a board, as far as that can be done without touching it. Arguments name the steps to run.
//! Without the variable nothing is done.
// A test whose stage cannot be set may panic.
#![allow(clippy::unwrap_used)]

#[path = "../common.rs"]
mod common;
mod cycles;
mod guest;
mod kiosk;
mod protocol;
mod receiver;
mod screen;
mod steps;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::guest::Kind;
use crate::kiosk::Kiosk;
use crate::protocol::Protocol;
use crate::receiver::Receiver;
use crate::steps::{STEPS, Scene};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, device, count] = &arguments[..]
        && mode == "--open-often"
    {
        let outcome = cycles::open_often(device, count.parse().unwrap_or(1));
        return match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let Ok(target) = std::env::var("ANEMIA_HIL") else {
        println!("skipped: no kiosk to test (ANEMIA_HIL; make vm-test has an emulated one)");
        return ExitCode::SUCCESS;
    };
    match run(&target) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("the scenario cannot be run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(target: &str) -> Result<bool> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let kiosk = match target {
        "vm" => Kiosk::emulated(Kind::Pc)?,
        "screen" => Kiosk::emulated(Kind::Screen)?,
        "arm" => Kiosk::emulated(Kind::Arm)?,
        board => Kiosk::board(board)?,
    };
    let with_screen = target == "screen";
    let start = Instant::now();
    let receiver = Receiver::start(&kiosk.broker.0, kiosk.broker.1);
    // As qemu says of itself to the guest; for ARM it has no name for its processor, and this one for the board.
    let emulated = "grep -qi 'model name.*TCG' /proc/cpuinfo || grep -qs dummy-virt /proc/device-tree/compatible";
    let is_slow = kiosk.run(&format!("{emulated} && echo yes || echo no"))? == "yes";
    let mut scene = Scene { kiosk, receiver, start, protocol: Protocol::new(is_slow) };
    for step in STEPS {
        if step.needs_screen != with_screen && !step.always {
            continue;
        }
        let is_wanted = step.always || wanted.is_empty() || wanted.iter().any(|name| name == step.name);
        if !is_wanted || (step.needs_emulation && !scene.kiosk.is_emulated()) {
            continue;
        }
        scene.protocol.step(step.name);
        // One step that cannot be done says nothing about the next.
        if let Err(error) = (step.run)(&mut scene) {
            scene.protocol.check(false, format_args!("{error:#}"));
        }
    }
    Ok(scene.protocol.close())
}
