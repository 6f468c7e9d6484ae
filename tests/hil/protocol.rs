//! What was checked and measured, as lines on standard output while it happens.

use std::time::{Duration, Instant};

/// The checks of a run.
pub struct Protocol {
    start: Instant,
    step: String,
    /// The processor of the kiosk is emulated.
    pub is_slow: bool,
    passed: u32,
    failed: u32,
    /// Rows for docs/reference/performance.md: what, figure, aim.
    figures: Vec<(String, String, String)>,
}

impl Protocol {
    pub fn new(is_slow: bool) -> Self {
        Self { start: Instant::now(), step: String::new(), is_slow, passed: 0, failed: 0, figures: Vec::new() }
    }

    /// Everything from here on belongs to a step.
    pub fn step(&mut self, name: &str) {
        self.step = name.to_owned();
    }

    /// One thing that must be so.
    pub fn check(&mut self, holds: bool, what: impl std::fmt::Display) {
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
        let mark = if holds { "ok  " } else { "FAIL" };
        println!("[{:5.0} s] {mark} {}: {what}", self.start.elapsed().as_secs_f64(), self.step);
    }

    /// Something to know.
    pub fn note(&self, what: impl std::fmt::Display) {
        println!("[{:5.0} s] note {}: {what}", self.start.elapsed().as_secs_f64(), self.step);
    }

    /// A time with an aim. It must be met where the processor is real; where it is itself a program, it is only told.
    pub fn time(&mut self, what: &str, time: Option<Duration>, aim: Duration) {
        let found = time.map_or("never".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()));
        let aim_text = format!("≤ {:.1} s", aim.as_secs_f64());
        self.figures.push((what.to_owned(), found.clone(), aim_text.clone()));
        match time {
            Some(time) if time > aim && self.is_slow => self.note(format_args!("{what}: {found} (aim {aim_text})")),
            _ => self.check(time.is_some_and(|time| time <= aim), format_args!("{what}: {found} (aim {aim_text})")),
        }
    }

    /// A figure without a limit.
    pub fn figure(&mut self, what: &str, found: impl std::fmt::Display, aim: &str) {
        println!("[{:5.0} s] note {}: {what}: {found}", self.start.elapsed().as_secs_f64(), self.step);
        self.figures.push((what.to_owned(), found.to_string(), aim.to_owned()));
    }

    /// The table and the sum; whether all is well.
    pub fn close(self) -> bool {
        println!("\n| what | found | aim |\n|---|---|---|");
        for (what, found, aim) in &self.figures {
            println!("| {what} | {found} | {aim} |");
        }
        println!("\n{} passed, {} failed", self.passed, self.failed);
        self.failed == 0 && self.passed > 0
    }
}
