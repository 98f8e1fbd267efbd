//! Progress of a download or of reading pictures: a bar on a terminal, otherwise a log line after every tenth.

use std::sync::OnceLock;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::system::logger::bar_can_be_drawn;

/// Fewer pictures are read so soon that a log need not say how many are.
const PICTURES_TO_LOG: u64 = 10_000;

/// How downloads and the reading of pictures are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// As a bar on a terminal, elsewhere as lines of the log.
    Bar,
    Lines,
    Nothing,
}

/// How the process shows them, once it was chosen.
static CHOSEN: OnceLock<Shown> = OnceLock::new();

/// Chooses how downloads and the reading of pictures are shown, once for the whole process; without a choice it is
/// [`Shown::Bar`].
pub fn choose(shown: Shown) {
    // A later choice changes nothing.
    let _ = CHOSEN.set(shown);
}

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
        let of = HumanBytes(total).to_string();
        Self::new(chosen(), what, total, counts, of, true)
    }

    /// `what` names their folder, `total` is their number.
    pub(super) fn of_pictures(what: &str, total: u64) -> Progress {
        let counts = "{human_pos}/{human_len} pictures, {per_sec}";
        let of = format!("{} pictures", HumanCount(total));
        Self::new(chosen(), what, total, counts, of, total >= PICTURES_TO_LOG)
    }

    fn new(
        shown: Shown,
        what: &str,
        total: u64,
        counts: &str,
        of: String,
        is_worth_lines: bool,
    ) -> Progress {
        let is_bar = shown == Shown::Bar && bar_can_be_drawn();
        Progress {
            what: what.to_string(),
            total: total.max(1),
            of,
            bar: is_bar.then(|| bar(what, total, counts)),
            is_logged: is_worth_lines && shown != Shown::Nothing,
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

fn chosen() -> Shown {
    CHOSEN.get().copied().unwrap_or(Shown::Bar)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_nothing_have_no_bar_and_nothing_has_no_lines() {
        for (shown, is_worth_lines, is_logged) in [
            (Shown::Lines, true, true),
            (Shown::Lines, false, false),
            (Shown::Nothing, true, false),
        ] {
            let of = "2 pictures".to_owned();
            let progress = Progress::new(shown, "folder", 2, "{pos}", of, is_worth_lines);
            assert!(progress.bar.is_none());
            assert_eq!(progress.is_logged, is_logged, "{shown:?}");
        }
    }
}
