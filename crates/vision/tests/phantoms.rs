//! Phantoms, and what the locator and the quality gate find in them.

use anemia_vision::phantom::Phantom;
use anemia_vision::{ColourLocator, Frame, GateThresholds, Locator, Quality, Rejection, Roi};

const LIMITS: GateThresholds = GateThresholds {
    min_tissue_px: 1000,
    min_exposure: 0.1,
    max_exposure: 0.9,
    max_clipped: 0.6,
    max_glare: 0.4,
    min_sharpness: 0.006,
    max_motion: 0.3,
    red: [1.1, 3.5],
    blue: [0.5, 1.2],
};

fn render(phantom: &Phantom) -> (Frame, Roi) {
    let mut frame = Frame::default();
    let roi = phantom.render(640, 360, &mut frame);
    (frame, roi)
}

fn mean_colour(frame: &Frame, inside: impl Fn(usize, usize) -> bool) -> [f32; 3] {
    let mut sum = [0.0; 3];
    let mut count = 0.0;
    for y in 0..frame.height() {
        for x in (0..frame.width()).filter(|&x| inside(x, y)) {
            (0..3).for_each(|channel| sum[channel] += f32::from(frame.pixel(x, y)[channel]));
            count += 1.0;
        }
    }
    sum.map(|total| total / count)
}

#[test]
fn a_seed_is_an_eye_for_ever_and_another_seed_is_another_eye() {
    assert_eq!(render(&Phantom::from_seed(7)), render(&Phantom::from_seed(7)));
    assert_ne!(render(&Phantom::from_seed(7)).0, render(&Phantom::from_seed(8)).0);
}

#[test]
fn the_mask_is_where_the_tissue_is_red_and_pallor_takes_the_red_away() {
    for seed in 0..10 {
        let mut redness = Vec::new();
        for pallor in [0.0, 0.5, 1.0] {
            let (frame, roi) = render(&Phantom { pallor, ..Phantom::from_seed(seed) });
            let [r, g, _] = mean_colour(&frame, |x, y| roi.contains(x, y));
            redness.push(r / g);
            if pallor == 0.0 {
                let [outside_r, outside_g, _] = mean_colour(&frame, |x, y| !roi.contains(x, y));
                assert!(r / g > 1.3 * outside_r / outside_g, "seed {seed}: the mask is not on the reddest part");
            }
        }
        assert!(redness[0] > redness[1] && redness[1] > redness[2], "seed {seed}: {redness:?}");
    }
}

#[test]
fn the_locator_finds_the_tissue_of_phantoms() {
    let mut locator = ColourLocator::new();
    let mut found = Roi::default();
    let mut overlaps: Vec<f32> = (0..40)
        .map(|seed| {
            let (frame, roi) = render(&Phantom::from_seed(seed));
            locator.locate(&frame, &mut found);
            found.overlap(&roi)
        })
        .collect();
    overlaps.sort_by(f32::total_cmp);
    let mean = overlaps.iter().sum::<f32>() / overlaps.len() as f32;
    println!("40 phantoms: mean IoU {mean:.3}, worst tenth from {:.3}", overlaps[4]);
    // Pale tissue beside warm skin is what a locator by colour cannot see.
    assert!(mean > 0.78, "mean overlap {mean}");
    assert!(overlaps[4] > 0.5, "the worst tenth begins at {}", overlaps[4]);
}

#[test]
fn nothing_is_found_where_there_is_no_eye() {
    let mut locator = ColourLocator::new();
    let mut roi = Roi::default();
    let mut noise = Frame::new(320, 240);
    let mut state = 1u32;
    noise.rgb_mut().fill_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let mut grey = Frame::new(320, 240);
    grey.rgb_mut().fill(128);
    for frame in [noise, grey, Frame::new(320, 240), Frame::new(1, 1), Frame::new(7, 900), Frame::new(0, 0)] {
        assert!(!locator.locate(&frame, &mut roi), "{}×{}", frame.width(), frame.height());
        assert!(roi.is_empty());
    }
    let mut red = Frame::new(320, 240);
    red.rgb_mut().chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&[200, 40, 40]));
    assert!(!locator.locate(&red, &mut roi), "tissue does not fill the picture");
}

#[test]
fn the_gate_passes_a_phantom_and_names_what_is_wrong_with_a_spoilt_one() {
    let good = Phantom { glare: 0.3, blur: 0, exposure: 1.0, ..Phantom::from_seed(5) };
    let (frame, roi) = render(&good);
    assert_eq!(Quality::measure(&frame, &roi).rejection(&LIMITS), None, "{:?}", Quality::measure(&frame, &roi));

    let spoil = |edit: fn(u8) -> u8| {
        let mut spoilt = frame.clone();
        spoilt.rgb_mut().iter_mut().for_each(|byte| *byte = edit(*byte));
        Quality::measure(&spoilt, &roi).rejection(&LIMITS)
    };
    assert_eq!(spoil(|byte| byte / 8), Some(Rejection::TooDark));
    assert_eq!(spoil(|byte| byte.saturating_mul(2)), Some(Rejection::TooBright));
    assert_eq!(spoil(|_| 215), Some(Rejection::Glare));

    // Without any structure. What is merely soft passes still: some real cut-outs are as smooth as that.
    assert_eq!(spoil(|_| 150), Some(Rejection::Blurred));

    let mut far = Roi::default();
    far.set_from(300, 200, 320, 210, |_, _| true);
    assert_eq!(Quality::measure(&frame, &far).rejection(&LIMITS), Some(Rejection::TooSmall));
    assert_eq!(Quality::measure(&frame, &Roi::default()).rejection(&LIMITS), Some(Rejection::NoConjunctiva));
}
