//! Bars and spinners on the terminal.

use std::time::Duration;

use indicatif::ProgressStyle;

/// Time between redraws of a spinner.
pub const SPINNER_INTERVAL: Duration = Duration::from_millis(200);

pub fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} [{wide_bar:.cyan}] {pos}/{len} {msg}")
        // The template is a constant, and tests draw it.
        .expect("the template of the bar is well-formed")
        .progress_chars("=> ")
}

pub fn spinner_style() -> ProgressStyle {
    ProgressStyle::with_template("{msg} ... {elapsed}")
        // The template is a constant, and tests draw it.
        .expect("the template of the spinner is well-formed")
}

pub fn terminal_width() -> usize {
    usize::from(console::Term::stderr().size().1)
}
