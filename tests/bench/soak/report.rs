//! docs/reference/soak.md.

use std::fmt::Write as _;
use std::fs;

use super::faults::{ENDS, FAULTS};
use super::memory::Sample;
use super::support;

/// Writes the page.
pub fn write(table: &str, samples: &[Sample]) {
    let mut text = String::from(
        "# Soak\n\n`make soak` gives a kiosk what a busy one sees in 24 hours, one exam in three minutes, without the idle time\n\
         between them, and every kind of fault that can be made on one machine. The daemon is the release build; its pictures\n\
         come from a network camera (GStreamer over TCP) that shows phantoms; its broker is mosquitto; its disk has 64 MiB. This\n\
         page is written by `UPDATE_DOCS=1 make soak`; `EXAMS` makes it longer than 500 exams.\n\n",
    );
    writeln!(text, "Measured on {}. Not on a board.\n\n| | |\n|---|---|\n{table}", machine()).unwrap();
    text.push_str("## Faults\n\n");
    let mut names: Vec<&str> = FAULTS.iter().map(|(name, _)| *name).collect();
    names.push("configuration read again");
    names.extend(ENDS.iter().map(|(name, _)| *name));
    for name in names {
        writeln!(text, "- {name}").unwrap();
    }
    text.push_str(
        "\nEach is followed by at least two exams. Not among them, because one machine cannot make them, or not without more\n\
         rights: a USB camera that is pulled out, a clock that jumps, a hang that systemd ends, and a power cut. `make vm-test`\n\
         has those.\n\n\
         ## Memory and files\n\n\
         The last fifth of the exams is not here: it has the configuration read again and ends of the process, behind which\n\
         there are others to look at.\n\n\
         | exams | resident memory, kB | open files | threads |\n|---|---|---|---|\n",
    );
    for Sample { exams, rss_kb, files, threads } in samples.iter().step_by((samples.len() / 16).max(1)) {
        writeln!(text, "| {exams} | {rss_kb} | {files} | {threads} |").unwrap();
    }
    fs::write(support::project().join("docs/reference/soak.md"), text).unwrap();
}

fn machine() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap();
    let name = processor.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": a processor");
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    format!("{cores} cores of {}", name.trim_start_matches(['\t', ' ', ':']))
}
