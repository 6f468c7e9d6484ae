//! What the commands print.

use std::fmt::Display;
use std::io::{self, Write};

/// A line of results, on standard output. A reader that has gone away, such as `head`, does not end a training.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A line about the progress, on standard error.
#[cfg(feature = "torch")]
pub(crate) fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A bar with the time left; nothing where nobody watches.
#[cfg(feature = "torch")]
pub(crate) fn progress(epochs: u32, name: &str) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(u64::from(epochs)).with_prefix(name.to_owned());
    let style = indicatif::ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} epochs, {eta} left  {msg}");
    bar.set_style(style.expect("the template is correct"));
    bar.enable_steady_tick(std::time::Duration::from_secs(1));
    bar
}
