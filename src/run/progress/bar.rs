//! Bars and spinners on the terminal.

use std::env;
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressDrawTarget, ProgressStyle};

/// Redraws of the bar per second, at most.
const REDRAWS_PER_SECOND: u8 = 10;
/// Time between redraws of the seconds of something that has no steps.
pub const SPINNER_INTERVAL: Duration = Duration::from_millis(200);

/// The stderr that bars are drawn on. Log messages have to go through it, or they would tear a bar:
/// `indicatif_log_bridge::LogWrapper::new(terminal.clone(), logger)`.
pub fn terminal() -> MultiProgress {
    MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND))
}

pub fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} [{wide_bar:.cyan}] {pos}/{len} {msg}")
        // The template is a constant, and the tests draw it.
        .expect("the template of the bar is well-formed")
        .progress_chars("=> ")
}

pub fn spinner_style() -> ProgressStyle {
    ProgressStyle::with_template("{msg} ... {elapsed}")
        // The template is a constant, and the tests draw it.
        .expect("the template of the spinner is well-formed")
}

pub fn bar_can_be_drawn() -> bool {
    io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

pub fn terminal_width() -> usize {
    usize::from(console::Term::stderr().size().1)
}
