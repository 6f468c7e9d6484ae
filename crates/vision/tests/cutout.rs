//! The cut-out is what the classifier was trained on: it must not change by a single bit.

use anemia_vision::{AlphaLocator, BoxLocator, CutOut, Frame, InputSpec, Locator, Roi, read_picture};
use proptest::prelude::*;

fn pattern(width: usize, height: usize) -> Frame {
    let mut frame = Frame::new(width, height);
    for (at, pixel) in frame.rgb_mut().chunks_exact_mut(3).enumerate() {
        let (x, y) = (at % width, at / width);
        // Half the red, so that nothing looks like a reflection, which a cut-out fills.
        pixel.copy_from_slice(&[(x * 37 + y * 11) as u8 / 2, (x * x + y * 7) as u8, ((x * 5) ^ (y * 13)) as u8]);
    }
    frame
}

fn whole(frame: &Frame) -> Roi {
    let mut roi = Roi::default();
    roi.set_from(0, 0, frame.width(), frame.height(), |_, _| true);
    roi
}

#[test]
fn the_resize_is_pillows_to_the_bit() {
    let mut cutout = CutOut::new();
    let mut expected = Frame::default();
    // Smaller, larger, and each in one direction only; the same cut-out is used again and again, as on the kiosk.
    for (width, height) in [(61, 37), (9, 7), (16, 90), (640, 11), (61, 37)] {
        let frame = pattern(width, height);
        let fixture = format!("{}/tests/fixtures/pillow-{width}x{height}.png", env!("CARGO_MANIFEST_DIR"));
        read_picture(fixture.as_ref(), &mut expected).unwrap();
        cutout.cut(&frame, &whole(&frame), 16, 24);
        assert_eq!(cutout.pixels(), expected.rgb(), "{width}×{height}");
    }
}

#[test]
fn reflections_become_what_lies_beside_them() {
    let mut frame = Frame::new(20, 3);
    frame.rgb_mut().chunks_exact_mut(3).enumerate().for_each(|(at, pixel)| {
        pixel.copy_from_slice(&[150 + (at % 20) as u8, 60, 70]);
    });
    let mut roi = Roi::default();
    // The last two columns are not tissue.
    roi.set_from(0, 0, 18, 3, |_, _| true);
    let mut cutout = CutOut::new();
    cutout.cut(&frame, &roi, 18, 3);
    let clean = cutout.pixels().to_vec();
    let mut glaring = frame.clone();
    // In the middle of the first row, at the beginning of the second, and to the edge of the mask in the third.
    for (x, y) in [(7, 0), (8, 0), (10, 0), (0, 1), (1, 1), (16, 2), (17, 2)] {
        glaring.rgb_mut()[(y * 20 + x) * 3..][..3].copy_from_slice(&[252, 250, 248]);
    }
    cutout.cut(&glaring, &roi, 18, 3);
    for (at, (filled, clean)) in cutout.pixels().iter().zip(&clean).enumerate() {
        // Where there is tissue on one side only, it is carried on.
        assert!(filled.abs_diff(*clean) <= 3, "byte {at}: {filled}, and {clean} without the reflection");
    }
    // Nothing but reflections is left as it is: the gate refuses it.
    glaring.rgb_mut().fill(250);
    cutout.cut(&glaring, &roi, 18, 3);
    assert!(cutout.pixels().iter().all(|&byte| byte == 250));
}

#[test]
fn only_the_tissue_inside_its_box_is_seen() {
    // A frame of noise in which only a 4×3 block is tissue, and one pixel of the block is not.
    let mut frame = pattern(40, 30);
    let mut rgba: Vec<u8> = frame.rgb().chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 0]).collect();
    for (x, y) in (10..14).flat_map(|x| (20..23).map(move |y| (x, y))).filter(|&at| at != (11, 21)) {
        rgba[(y * 40 + x) * 4 + 3] = 1;
    }
    frame.set_rgba(40, 30, &rgba);
    let mut roi = Roi::default();
    assert!(AlphaLocator.locate(&frame, &mut roi));
    assert_eq!((roi.x(), roi.y(), roi.width(), roi.height(), roi.area()), (10, 20, 4, 3, 11));

    let mut cutout = CutOut::new();
    cutout.cut(&frame, &roi, 4, 3);
    let seen = |x: usize, y: usize| &cutout.pixels()[(y * 4 + x) * 3..][..3];
    assert_eq!(seen(0, 0), frame.pixel(10, 20));
    assert_eq!(seen(3, 2), frame.pixel(13, 22));
    assert_eq!(seen(1, 1), [0, 0, 0], "a pixel outside the mask is black");
}

#[test]
fn the_input_holds_planes_of_normalised_values() {
    let spec = InputSpec { width: 2, height: 1, mean: [0.5, 0.0, 0.5], std: [0.5, 1.0, 0.25], rim: 0, smooth: 0.0 };
    let mut input = vec![0.0; spec.len()];
    spec.write(&[0, 255, 51, 255, 0, 255], &mut input);
    for (value, expected) in input.iter().zip([-1.0, 1.0, 1.0, 0.0, -1.2, 2.0]) {
        assert!((value - expected).abs() < 1e-6, "{input:?}");
    }
}

/// A striped tissue of odd shape in the black.
fn striped(width: usize, height: usize) -> (Frame, Roi) {
    let mut frame = Frame::new(width, height);
    frame.rgb_mut().chunks_exact_mut(3).enumerate().for_each(|(at, pixel)| {
        pixel.copy_from_slice(&if (at % width).is_multiple_of(2) { [200, 90, 100] } else { [120, 50, 60] });
    });
    let mut roi = Roi::default();
    roi.set_from(0, 0, width, height, |x, y| (x + 2 * y) % 37 > 6);
    (frame, roi)
}

#[test]
fn smoothing_takes_detail_out_of_tissue_and_nothing_of_the_black_in() {
    let (frame, roi) = striped(64, 64);
    let spec = InputSpec { width: 64, height: 64, mean: [0.5; 3], std: [0.5; 3], rim: 0, smooth: 2.0 };
    let mut cutout = CutOut::new();
    cutout.cut_for(&spec, &frame, &roi);
    for (at, pixel) in cutout.pixels().chunks_exact(3).enumerate() {
        match roi.contains(at % 64, at / 64) {
            // Half of either stripe, but for an edge on which one is more.
            true => assert!(pixel[0].abs_diff(160) < 30 && pixel[1].abs_diff(70) < 16, "{pixel:?} at {at}"),
            false => assert_eq!(pixel, [0; 3], "black at {at}"),
        }
    }
    // Against the same in floats.
    let mut sharp = CutOut::new();
    sharp.cut(&frame, &roi, 64, 64);
    let weight = |distance: usize| (-0.5 * (distance as f64 / 2.0).powi(2)).exp();
    for at in (0..64 * 64).filter(|at| roi.contains(at % 64, at / 64)).step_by(7) {
        let (mut sum, mut share) = (0.0, 0.0);
        for (other, pixel) in sharp.pixels().chunks_exact(3).enumerate() {
            let (across, down) = ((other % 64).abs_diff(at % 64), (other / 64).abs_diff(at / 64));
            if across <= 6 && down <= 6 && pixel != [0; 3] {
                sum += f64::from(pixel[0]) * weight(across) * weight(down);
                share += weight(across) * weight(down);
            }
        }
        let found = f64::from(cutout.pixels()[at * 3]);
        assert!((found - sum / share).abs() < 1.5, "{found} instead of {} at {at}", sum / share);
    }
}

#[test]
fn the_rim_goes_and_a_narrow_strip_keeps_its_middle() {
    let left = |width: usize, height: usize, rim: u32| {
        let mut frame = Frame::new(64, 64);
        frame.rgb_mut().fill(150);
        let mut roi = Roi::default();
        // The corners belong to the ROI's box, and the rest of the rim of the box does not.
        let inside = |x: usize, y: usize| (1..=width).contains(&x) && (1..=height).contains(&y);
        roi.set_from(0, 0, 64, 64, |x, y| inside(x, y) || (x % 63 == 0 && y % 63 == 0));
        let spec = InputSpec { width: 64, height: 64, mean: [0.5; 3], std: [0.5; 3], rim, smooth: 0.0 };
        let mut cutout = CutOut::new();
        cutout.cut_for(&spec, &frame, &roi);
        let tissue = |at: usize| cutout.pixels()[at * 3..][..3] == [150; 3];
        let found: Vec<(usize, usize)> = (0..64 * 64).filter(|&at| tissue(at)).map(|at| (at % 64, at / 64)).collect();
        (found.len(), *found.iter().min().unwrap(), *found.iter().max().unwrap())
    };
    assert_eq!(left(20, 30, 3), (14 * 24, (4, 4), (17, 27)));
    // Five rows, three, and one would be too little.
    assert_eq!(left(40, 5, 3), (38 * 3, (2, 2), (39, 4)));
    assert_eq!(left(62, 62, 1), (60 * 60, (2, 2), (61, 61)));
}

#[test]
fn a_hundredth_of_what_networks_look_at_is_tissue_or_there_is_none() {
    let spec = InputSpec { width: 128, height: 128, mean: [0.5; 3], std: [0.5; 3], rim: 0, smooth: 0.0 };
    let mut cutout = CutOut::new();
    // Of 1024 pixels that are looked at, ten are not enough and eleven are.
    for (row, columns, enough) in [(0, 40, false), (0, 44, true), (1, 128, false)] {
        let mut frame = Frame::new(128, 128);
        frame.rgb_mut()[row * 128 * 3..][..columns * 3].fill(150);
        cutout.cut_for(&spec, &frame, &whole(&frame));
        assert_eq!(cutout.has_tissue(), enough, "{columns} pixels of row {row}");
    }
}

#[test]
fn a_box_is_clipped_to_the_frame() {
    let frame = pattern(20, 10);
    let mut roi = Roi::default();
    assert!(BoxLocator { x: 15, y: 5, width: 100, height: 100 }.locate(&frame, &mut roi));
    assert_eq!((roi.x(), roi.y(), roi.width(), roi.height()), (15, 5, 5, 5));
    assert!(!BoxLocator { x: 20, y: 0, width: 5, height: 5 }.locate(&frame, &mut roi));
    assert!(!BoxLocator { x: usize::MAX, y: usize::MAX, width: usize::MAX, height: 1 }.locate(&frame, &mut roi));
    assert!(roi.is_empty());
}

proptest! {
    /// Whatever the shape of the ROI: no panic, and a uniform tissue stays uniform.
    #[test]
    fn any_roi_can_be_cut(width in 1usize..90, height in 1usize..90, out in 1usize..40, value in any::<u8>()) {
        let mut frame = Frame::new(width, height);
        frame.rgb_mut().fill(value);
        let mut cutout = CutOut::new();
        cutout.cut(&frame, &whole(&frame), out, out);
        prop_assert!(cutout.pixels().iter().all(|&byte| byte == value));
    }

    /// Whatever the tissue: no panic, nothing else changes, and a quarter stays.
    #[test]
    fn any_rim_can_be_taken_away(size in 8usize..70, rim in 1u32..=16) {
        let (frame, roi) = striped(size, size);
        let (mut whole, mut less) = (CutOut::new(), CutOut::new());
        whole.cut(&frame, &roi, size, size);
        let spec = InputSpec { width: size, height: size, mean: [0.5; 3], std: [0.5; 3], rim, smooth: 0.0 };
        less.cut_for(&spec, &frame, &roi);
        let mut pairs = whole.pixels().chunks_exact(3).zip(less.pixels().chunks_exact(3));
        prop_assert!(pairs.all(|(before, after)| after == before || after == [0; 3]));
        let tissue = |one: &CutOut| one.pixels().chunks_exact(3).filter(|&pixel| pixel != [0; 3]).count();
        prop_assert!(tissue(&less) * 4 >= tissue(&whole));
    }

    /// Whatever the tissue and the strength: no panic, no colour that was not there, and a uniform tissue stays uniform.
    #[test]
    fn anything_can_be_smoothed(size in 8usize..70, smooth in 0.01f32..16.0, value in 3u8..=255) {
        let mut cutout = CutOut::new();
        let spec = InputSpec { width: size, height: size, mean: [0.5; 3], std: [0.5; 3], rim: 0, smooth };
        let (frame, roi) = striped(size, size);
        cutout.cut_for(&spec, &frame, &roi);
        prop_assert!(cutout.pixels().iter().all(|&byte| byte <= 200));
        let mut frame = Frame::new(size, size);
        frame.rgb_mut().fill(value);
        cutout.cut_for(&spec, &frame, &whole(&frame));
        prop_assert!(cutout.pixels().iter().all(|&byte| byte == value));
    }
}
