//! The units of systemd: as systemd reads them, and how much they leave open.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{project, skipped};

/// `systemd-analyze`, or `None` with a line that says so.
fn analyze(arguments: &[&str]) -> Option<Output> {
    let output = Command::new("systemd-analyze").args(arguments).output().ok();
    if output.is_none() {
        skipped("no systemd-analyze");
    }
    output
}

/// All units in a folder, as if their programs were installed; with the drop-in of a Jetson or not.
fn units(folder: &Path, jetson: bool) {
    for entry in fs::read_dir(project().join("systemd")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "service" || end == "path") {
            let text = fs::read_to_string(&path).unwrap();
            let lines =
                text.lines().map(|line| if line.starts_with("ExecStart=") { "ExecStart=/bin/true" } else { line });
            let text: Vec<_> = lines.collect();
            fs::write(folder.join(path.file_name().unwrap()), text.join("\n") + "\n").unwrap();
        }
    }
    if jetson {
        let drop_in = folder.join("anemiad.service.d");
        fs::create_dir(&drop_in).unwrap();
        fs::copy(project().join("systemd/anemiad-jetson.conf"), drop_in.join("jetson.conf")).unwrap();
    }
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    for jetson in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        units(folder.path(), jetson);
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let Some(output) = analyze(&["--man=no", "verify", &path.display().to_string()]) else { return };
                let said = String::from_utf8_lossy(&output.stderr);
                // It also reads units of this machine, about which it may have something to say.
                let about_ours: Vec<_> = said.lines().filter(|line| line.contains("anemia")).collect();
                assert!(about_ours.is_empty(), "{about_ours:?}");
            }
        }
    }
}

#[test]
fn the_daemon_leaves_little_open() {
    for (jetson, most) in [(false, "18"), (true, "30")] {
        let folder = tempfile::tempdir().unwrap();
        units(folder.path(), jetson);
        let threshold = format!("--threshold={most}");
        let unit = folder.path().join("anemiad.service").display().to_string();
        let Some(output) = analyze(&["security", "--offline=true", "--no-pager", &threshold, &unit]) else { return };
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        assert!(output.status.success(), "with the Jetson's drop-in: {jetson}; {last}");
        println!("with the Jetson's drop-in: {jetson}; {last}");
    }
}
