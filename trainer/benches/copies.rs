//! How the search for copies grows with the number of pictures: near linearly, or it would not be usable.
// A bench whose stage cannot be set may panic.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use anemia_trainer::audit::{Plate, group};
use anemia_vision::Frame;
use image::Rgba;
use image::imageops::flip_horizontal_in_place;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use rayon::prelude::*;

fn main() {
    for count in [3_125u64, 12_500, 50_000] {
        // The last fifth are copies of the first pictures: mirrored, a little darker, and with noise.
        let originals = count - count / 5;
        let plate = |index: u64| {
            let mut picture = support::crescent(if index < originals { index } else { index - originals });
            if index >= originals {
                flip_horizontal_in_place(&mut picture);
                let mut random = Pcg64::seed_from_u64(index);
                for Rgba([r, g, b, _]) in picture.pixels_mut() {
                    for value in [r, g, b] {
                        *value = (f32::from(*value) * 0.95 + random.random_range(0.0..3.0)) as u8;
                    }
                }
            }
            let mut frame = Frame::default();
            frame.set_rgba(picture.width() as usize, picture.height() as usize, picture.as_raw());
            Plate::of(&frame).unwrap()
        };
        let plates: Vec<Plate> = (0..count).into_par_iter().map(plate).collect();
        let start = Instant::now();
        let groups = group(&plates);
        let seconds = start.elapsed().as_secs_f64();
        let found = (originals..count).filter(|&k| groups[k as usize] == groups[(k - originals) as usize]).count();
        let number = groups.iter().max().map_or(0, |last| last + 1);
        println!(
            "{count:>6} pictures: {seconds:>7.2} s, {:>6.1} µs a picture; {found} of {} copies found, {number} groups of {}",
            seconds / count as f64 * 1e6,
            count / 5,
            originals
        );
    }
}
