//! What an inference costs beyond TensorRT's own work: context, shim, stream and status, on a TensorRT that only adds up 192
//! numbers. The peer is that sum alone.
// A benchmark may panic and print.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/fake/mod.rs"]
mod fake;

use std::hint::black_box;
use std::time::Instant;

use anemia_tensorrt::{BuildOptions, Device, Runtime, Shim, Stream};

const RUNS: u32 = 100_000;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    fake::use_cuda(folder.path());
    let path = folder.path().join("shim.so");
    fake::build_shim(805, &path, &[]);
    let shim = Shim::open(Some(&path)).unwrap();
    let built = shim.build(&fake::network(""), &BuildOptions::default(), &mut |_| true).unwrap();
    let device = Device::first().unwrap();
    let stream = Stream::new(&device).unwrap();
    let mut context = Runtime::new(&shim).unwrap().load(&built.plan).unwrap().into_context().unwrap();
    let [input, output] = ["image", "logit"].map(|name| context.bind(name, &device).unwrap());
    let mut ours = Vec::new();
    let mut peer = Vec::new();
    // In turns, so that a slower moment hits both.
    for _ in 0..10 {
        let start = Instant::now();
        for _ in 0..RUNS / 10 {
            device.make_current().unwrap();
            context.run(&stream).unwrap();
            black_box(context.values(output)[0]);
        }
        ours.push(start.elapsed().as_secs_f64() * 1e7 / f64::from(RUNS));
        let start = Instant::now();
        for _ in 0..RUNS / 10 {
            let sum: f64 = black_box(&*context.values(input)).iter().map(|&value| f64::from(value)).sum();
            black_box(sum / 192.0);
        }
        peer.push(start.elapsed().as_secs_f64() * 1e7 / f64::from(RUNS));
    }
    let middle = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (ours, peer) = (middle(&mut ours), middle(&mut peer));
    println!(
        "an inference takes {ours:.2} µs, the sum alone {peer:.2} µs: {:.2} µs are ours (at most 20 are wanted)",
        ours - peer
    );
}
