//! Once warm, the pixel thread allocates nothing per frame: proven by counting.
#![allow(unsafe_code, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::time::Instant;

use anemia_engine::EngineOptions;
use anemia_vision::phantom::Phantom;
use anemia_vision::{Frame, Rejection};
use anemiad::board::Board;
use anemiad::config;
use anemiad::exam::Exam;
use anemiad::pipeline::{Parts, Pipeline};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on unchanged to the system's allocator; counting touches no allocated memory, and a
// thread-local of a plain number needs no allocation itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn a_warm_pipeline_does_not_allocate() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let parts = Parts {
        bundle: models.join("pallor"),
        precision: config::WantedPrecision::Fp32,
        options: EngineOptions::default(),
        roi: config::Roi::Auto,
        locator: config::Locator { bundle: Some(models.join("locator")), fallback: None },
        limits: config::Quality::default().thresholds(),
    };
    let mut pipeline = Pipeline::open(&parts, &mut |_| true).unwrap();
    let board = Board::new(pipeline.identity().clone());
    let settings = config::Exam { frames: 31, ..config::Exam::default() };
    let mut exam = Exam::new(settings, pipeline.operating_point(), None);

    // Small eyes first and larger ones later, an empty view, and eyes that the gate rejects.
    let mut frames: Vec<Frame> = (0..8)
        .map(|seed| {
            let mut frame = Frame::default();
            let phantom = Phantom { half_width: 0.25 + 0.02 * seed as f32, ..Phantom::from_seed(seed) };
            phantom.render(1280, 720, &mut frame);
            frame
        })
        .collect();
    frames.push(Frame::new(1280, 720));
    let mut dark = frames[3].clone();
    dark.rgb_mut().iter_mut().for_each(|byte| *byte /= 6);
    frames.push(dark);

    let mut step = |frame: &Frame| {
        let analysis = pipeline.analyse(frame, Instant::now());
        board.captured(0);
        board.analysed(&analysis.times, &analysis.outcome);
        exam.observe(analysis.outcome, Instant::now());
        board.exam(exam.state(), None);
        analysis.outcome
    };
    // The first frame warms up: it is the smallest eye of all.
    assert!(step(&frames[0]).is_ok());
    let (mut judged, mut rejected) = (0, Vec::new());
    for frame in &frames[1..] {
        let mut outcome = Err(Rejection::NoPicture);
        // Once where the conjunctiva is looked for, and once where it is followed.
        for _ in 0..2 {
            let count = allocations(|| outcome = step(frame));
            assert_eq!(count, 0, "a frame with the outcome {outcome:?} allocated");
        }
        match outcome {
            Ok(_) => judged += 1,
            Err(reason) => rejected.push(reason),
        }
    }
    assert!(judged >= 4 && rejected.contains(&Rejection::NoConjunctiva), "{judged} judged, {rejected:?}");
}
