//! Progress of a download or of reading pictures: a bar on a terminal, otherwise a log line after every tenth.

use std::io::{IsTerminal, stderr};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

/// Fewer pictures are read so soon that a log need not say how many are.
const PICTURES_TO_LOG: u64 = 10_000;

pub(super) struct Progress {
    what: String,
    total: u64,
    /// The total with its unit.
    of: String,
    bar: Option<ProgressBar>,
    is_logged: bool,
    tenths_logged: u64,
}

impl Progress {
    /// `what` names the download, `total` is its size in bytes.
    pub(super) fn of_bytes(what: &str, total: u64) -> Progress {
        let counts = "{bytes}/{total_bytes} {bytes_per_sec}";
        Self::new(what, total, counts, HumanBytes(total).to_string(), true)
    }

    /// `what` names their folder, `total` is their number.
    pub(super) fn of_pictures(what: &str, total: u64) -> Progress {
        let counts = "{human_pos}/{human_len} pictures, {per_sec}";
        let of = format!("{} pictures", HumanCount(total));
        Self::new(what, total, counts, of, total >= PICTURES_TO_LOG)
    }

    fn new(what: &str, total: u64, counts: &str, of: String, is_logged: bool) -> Progress {
        Progress {
            what: what.to_string(),
            total: total.max(1),
            of,
            bar: stderr().is_terminal().then(|| bar(what, total, counts)),
            is_logged,
            tenths_logged: 0,
        }
    }

    /// Reports that `done` of the total are there.
    pub(super) fn set(&mut self, done: u64) {
        let done = done.min(self.total);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            return;
        }
        let tenths = done * 10 / self.total;
        if self.is_logged && tenths > self.tenths_logged {
            self.tenths_logged = tenths;
            log::info!("{}: {} % of {}", self.what, tenths * 10, self.of);
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

fn bar(what: &str, total: u64, counts: &str) -> ProgressBar {
    let template = format!("{{msg}} [{{wide_bar}}] {counts}, {{eta}} left");
    let style =
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total)
        .with_style(style)
        .with_message(what.to_string())
}
