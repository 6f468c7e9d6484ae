//! What the commands print.

use std::fmt::Display;
use std::io::{self, Write};

/// A line of results, on standard output. A reader that has gone away, such as `head`, does not end the work.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}
