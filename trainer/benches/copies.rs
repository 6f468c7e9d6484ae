//! How the search for copies grows with the number of pictures: near linearly, or it would not be usable.
// A bench whose stage cannot be set may panic.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use anemia_trainer::audit::{Plate, group};
use anemia_vision::Frame;
use image::imageops::flip_horizontal;
use rayon::prelude::*;

fn main() {
    for count in [3_125u64, 12_500, 50_000] {
        // Every fifth picture is a mirrored copy of the one before it.
        let plate = |index: u64| {
            let picture =
                if index % 5 == 4 { flip_horizontal(&support::crescent(index - 1)) } else { support::crescent(index) };
            let mut frame = Frame::default();
            frame.set_rgba(picture.width() as usize, picture.height() as usize, picture.as_raw());
            Plate::of(&frame).unwrap()
        };
        let plates: Vec<Plate> = (0..count).into_par_iter().map(plate).collect();
        let start = Instant::now();
        let groups = group(&plates);
        let seconds = start.elapsed().as_secs_f64();
        let found = (0..count as usize).filter(|k| k % 5 == 4 && groups[*k] == groups[k - 1]).count();
        let number = groups.iter().max().map_or(0, |last| last + 1);
        println!(
            "{count:>6} pictures: {seconds:>7.2} s, {:>6.1} µs a picture; {found} of {} copies found, {number} groups of {}",
            seconds / count as f64 * 1e6,
            count / 5,
            count - count / 5
        );
    }
}
