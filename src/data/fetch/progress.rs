//! Download progress: a bar on a terminal, otherwise a log line after every tenth.

use std::io::{IsTerminal, stderr};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

pub(super) struct Progress {
    what: String,
    total: u64,
    bar: Option<ProgressBar>,
    tenths_logged: u64,
}

impl Progress {
    /// `what` names the download, `total` is its size in bytes.
    pub(super) fn new(what: &str, total: u64) -> Progress {
        Progress {
            what: what.to_string(),
            total: total.max(1),
            bar: stderr().is_terminal().then(|| bar(what, total)),
            tenths_logged: 0,
        }
    }

    /// Reports that `done` bytes of the total have arrived.
    pub(super) fn set(&mut self, done: u64) {
        let done = done.min(self.total);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            return;
        }
        let tenths = done * 10 / self.total;
        if tenths > self.tenths_logged {
            self.tenths_logged = tenths;
            log::info!(
                "{}: {} % of {}",
                self.what,
                tenths * 10,
                HumanBytes(self.total)
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &str, total: u64) -> ProgressBar {
    let template = "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total)
        .with_style(style)
        .with_message(what.to_string())
}
