//! What every test program needs: the source folder, data sets, the texts of a program.
// Each test program uses a part of this.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Output;

pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The folder of a development data set, or `None` with a line that says so.
pub fn data(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ANEMIA_DATA").map(PathBuf::from);
    let folder = root.unwrap_or_else(|| project().join("../shared/data")).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no data ({name} is not in ANEMIA_DATA)");
    None
}

/// Standard output, standard error and exit code.
pub fn texts(output: &Output) -> (String, String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}
