//! From maps and frames of any kind to a ROI: never a panic, and never a ROI that is not in the frame.

use anemia_vision::phantom::Phantom;
use anemia_vision::{Frame, MapReader, Rejection, Roi, Tracker};
use proptest::prelude::*;

/// A frame of tissue's colour.
fn red(width: usize, height: usize) -> Frame {
    let mut frame = Frame::new(width, height);
    frame.rgb_mut().chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&[180, 80, 85]));
    frame
}

/// A map of 96 × 96 cells in which a strip hangs as a lower lid does, or lies as `shape` says: its middle for a place from −1 to 1.
fn strip(shape: impl Fn(f32) -> f32) -> Vec<f32> {
    (0..96 * 96)
        .map(|at| {
            let (x, y) = ((at % 96) as f32, (at / 96) as f32);
            let along = (x - 48.0) / 30.0;
            if along.abs() < 1.0 && (y - shape(along)).abs() < 6.0 { 5.0 } else { -5.0 }
        })
        .collect()
}

fn read(frame: &Frame, map: &[f32]) -> (Result<(), Rejection>, Roi) {
    let mut roi = Roi::default();
    (MapReader::new().read(frame, map, 96, &mut roi), roi)
}

#[test]
fn a_strip_that_hangs_like_a_lid_is_taken_and_others_have_their_reason() {
    let frame = red(960, 960);
    let lid = |along: f32| 60.0 - 15.0 * along * along;
    let (found, roi) = read(&frame, &strip(lid));
    assert_eq!(found, Ok(()));
    let expected = 2.0 * 30.0 * 12.0 * 100.0;
    assert!((roi.area() as f32 / expected - 1.0).abs() < 0.1, "{} pixels", roi.area());

    assert_eq!(read(&frame, &strip(|along| 40.0 + 15.0 * along * along)).0, Err(Rejection::UpsideDown));
    assert_eq!(read(&frame, &strip(|_| 50.0)).0, Err(Rejection::NoConjunctiva), "a straight bar is no lid");
    // Tilted by 25°, it still is one.
    assert_eq!(read(&frame, &strip(|along| lid(along) - 14.0 * along)).0, Ok(()));
    let mut grey = Frame::new(960, 960);
    grey.rgb_mut().fill(120);
    assert_eq!(read(&grey, &strip(lid)).0, Err(Rejection::NoConjunctiva), "tissue is red");
    assert_eq!(read(&frame, &[5.0; 96 * 96]).0, Err(Rejection::NoConjunctiva), "a mask that fills the picture");
    let unsure: Vec<f32> = strip(lid).iter().map(|logit| logit / 10.0).collect();
    assert_eq!(read(&frame, &unsure).0, Err(Rejection::NoConjunctiva), "the network is not sure");

    // A lash across the strip, and a speck beside it, change nothing; a hole is filled.
    let mut marked = strip(lid);
    for row in 0..96 {
        marked[row * 96 + 40] = -5.0;
    }
    marked[10 * 96 + 10] = 9.0;
    marked[60 * 96 + 50] = -5.0;
    let (found, marked) = read(&frame, &marked);
    assert_eq!(found, Ok(()));
    assert!(marked.overlap(&roi) > 0.97, "IoU {}", marked.overlap(&roi));
}

#[test]
fn another_brightness_is_no_motion_and_another_picture_is_no_eye_to_follow() {
    let (mut frame, mut roi) = (Frame::default(), Roi::default());
    let truth = Phantom::from_seed(4).render(640, 360, &mut frame);
    let mut tracker = Tracker::new();
    tracker.remember(&frame, &truth);
    frame.rgb_mut().iter_mut().for_each(|byte| *byte = byte.saturating_sub(12));
    let followed = tracker.follow(&frame, &mut roi);
    assert!(followed.is_there && followed.moved < 0.002, "{followed:?}");
    assert_eq!(roi, truth);
    frame.rgb_mut().fill(30);
    let followed = tracker.follow(&frame, &mut roi);
    assert!(!followed.is_there && followed.moved == 1.0, "a hand before the lens: {followed:?}");
    // A frame of another size has nothing to do with the last.
    tracker.remember(&red(640, 360), &truth);
    assert!(!tracker.follow(&red(320, 180), &mut roi).is_there);
}

proptest! {
    #[test]
    fn no_map_leads_out_of_the_frame(
        (columns, rows) in (0usize..40, 0usize..40),
        (width, height) in (1usize..200, 1usize..200),
        seed: u64,
        special in prop::option::of(prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30])),
    ) {
        let mut state = seed | 1;
        let mut map: Vec<f32> = (0..columns * rows)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1u64 << 22) as f32 - 1.0
            })
            .collect();
        if let (Some(special), Some(first)) = (special, map.first_mut()) {
            *first = special;
        }
        let frame = red(width, height);
        let mut roi = Roi::default();
        let found = MapReader::new().read(&frame, &map, columns, &mut roi);
        prop_assert_eq!(found.is_ok(), !roi.is_empty());
        prop_assert!(roi.x() + roi.width() <= width && roi.y() + roi.height() <= height);
    }

    #[test]
    fn whatever_is_followed_stays_in_the_frame(
        (width, height) in (1usize..160, 1usize..160),
        edges in prop::array::uniform4(0usize..160),
        steps in prop::collection::vec((any::<u8>(), 0usize..400), 0..20),
    ) {
        let (mut roi, mut frame) = (Roi::default(), red(width, height));
        let [x0, y0] = [edges[0].min(width), edges[1].min(height)];
        roi.set_from(x0, y0, (x0 + edges[2]).min(width), (y0 + edges[3]).min(height), |_, _| true);
        let mut tracker = Tracker::new();
        tracker.remember(&frame, &roi);
        for (byte, place) in steps {
            let at = place * 7 % (width * height);
            frame.rgb_mut()[at * 3..].iter_mut().take(90).for_each(|channel| *channel = byte);
            let followed = tracker.follow(&frame, &mut roi);
            prop_assert!((0.0..=2.0).contains(&followed.moved), "{followed:?}");
            prop_assert!(roi.x() + roi.width() <= width && roi.y() + roi.height() <= height);
        }
    }
}
