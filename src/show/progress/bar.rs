//! Bars and spinners on the terminal.

use std::env;
use std::io::{self, IsTerminal};
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

pub fn bar_can_be_drawn() -> bool {
    io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

pub fn terminal_width() -> usize {
    usize::from(console::Term::stderr().size().1)
}
