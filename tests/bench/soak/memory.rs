//! What the daemon takes of the machine, and whether that grows.

use std::fs;

/// Resident memory in kB, open files, threads.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub exams: usize,
    pub rss_kb: u64,
    pub files: usize,
    pub threads: usize,
}

/// Of a process, after so many exams.
pub fn sample(pid: u32, exams: usize) -> Sample {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let number = |key: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    Sample { exams, rss_kb: number("VmRSS:"), files, threads: number("Threads:") as usize }
}

/// Growth of the resident memory in kB an exam, and its standard error.
///
/// Memory is a staircase: what is taken at one exam is there at all that follow. So the points do not scatter around a line
/// independently, and least squares would promise far too small an error. Here the memory is a random walk with drift: each step
/// is the drift and a chance, whose variance grows with the exams between two samples (Hamilton, Time Series Analysis, 1994,
/// chapter 15).
pub fn growth(samples: &[Sample]) -> (f64, f64) {
    let steps: Vec<(f64, f64)> = samples
        .windows(2)
        .map(|pair| ((pair[1].exams - pair[0].exams) as f64, pair[1].rss_kb as f64 - pair[0].rss_kb as f64))
        .filter(|(exams, _)| *exams > 0.0)
        .collect();
    let (exams, kb) = steps.iter().fold((0.0, 0.0), |sum, step| (sum.0 + step.0, sum.1 + step.1));
    let drift = kb / exams;
    let variance: f64 =
        steps.iter().map(|(exams, kb)| (kb - drift * exams).powi(2) / exams).sum::<f64>() / (steps.len() as f64 - 1.0);
    (drift, (variance / exams).sqrt())
}
