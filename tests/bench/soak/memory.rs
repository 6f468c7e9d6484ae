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

/// What the resident memory gained from each sample to the next, in kB, in rising order.
///
/// What leaks with every exam makes nearly all of them positive. A buffer that is used for the first time makes one of them large.
pub fn steps(samples: &[Sample]) -> Vec<i64> {
    let mut steps: Vec<i64> = samples.windows(2).map(|pair| pair[1].rss_kb as i64 - pair[0].rss_kb as i64).collect();
    steps.sort_unstable();
    steps
}

/// The longest run of samples in which the resident memory was never above that of the first. What leaks with every exam, or with a
/// fault that came meanwhile, would have ended it.
pub fn level(samples: &[Sample]) -> &[Sample] {
    let from = |start: usize| {
        let rest = &samples[start..];
        &rest[..rest.iter().take_while(|sample| sample.rss_kb <= rest[0].rss_kb).count()]
    };
    (0..samples.len()).map(from).max_by_key(|run| run.len()).unwrap_or_default()
}

/// What the resident memory gains with each exam, in kB, and the standard error of that.
///
/// Of memory that is never given back, whatever was gained once is in every later sample, so it is the steps between the samples
/// that vary by chance, and not the samples around a line: a line would take one large step for a steady rise, and give it too
/// small an error. The estimate is that of a ratio (Cochran 1977, "Sampling Techniques", section 6.4): all that was gained by all
/// the exams.
pub fn drift(samples: &[Sample]) -> (f64, f64) {
    let steps: Vec<(f64, f64)> = samples
        .windows(2)
        .map(|pair| ((pair[1].exams - pair[0].exams) as f64, pair[1].rss_kb as f64 - pair[0].rss_kb as f64))
        .collect();
    let (exams, gained) = steps.iter().fold((0.0, 0.0), |sums, step| (sums.0 + step.0, sums.1 + step.1));
    let drift = gained / exams;
    let rest: f64 = steps.iter().map(|step| (step.1 - drift * step.0).powi(2)).sum();
    let count = steps.len() as f64;
    (drift, (rest * count / (count - 1.0)).sqrt() / exams)
}
