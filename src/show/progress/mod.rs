//! What a run shows on the terminal: a bar, plain lines, or nothing.
//!
//! All of it goes to stderr, like the log, so that stdout contains only results.

mod bar;
mod count;
mod lines;
mod pace;

use std::io::{self, Write};
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar};
use serde::{Deserialize, Serialize};

use crate::data::progress::Shown;
use crate::run::observer::{EpochEnd, Observer, StepFigures};
use crate::system::logger::{TRAIN_LOG, bar_can_be_drawn};
use crate::system::text;
use bar::{SPINNER_INTERVAL, bar_style, spinner_style, terminal_width};
pub use count::Count;
use lines::{epoch_line, step_figures};
use pace::Pace;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProgressMode {
    /// A bar on a terminal, plain lines elsewhere
    #[default]
    Auto,
    /// A bar; plain lines if stderr is not a terminal
    Bar,
    /// A line per epoch, and one every half minute in a long epoch
    Plain,
    /// Nothing
    None,
}

impl ProgressMode {
    /// How downloads and the reading of pictures are shown with it.
    pub fn of_loading(self) -> Shown {
        match self {
            Self::Auto | Self::Bar => Shown::Bar,
            Self::Plain => Shown::Lines,
            Self::None => Shown::Nothing,
        }
    }
}

/// Shows a run: [`start`](Self::start) once, then the calls of an [`Observer`].
///
/// Dropping it removes a bar that is still shown.
pub struct Progress {
    output: Output,
    terminal: MultiProgress,
    /// "Epoch 3/100".
    title: String,
    steps: usize,
    phase: Option<Phase>,
}

enum Output {
    Bar,
    Plain(Box<dyn Write + Send>),
    None,
}

/// The training steps of an epoch, or its evaluation.
struct Phase {
    title: String,
    /// Hidden unless the output is a bar.
    bar: ProgressBar,
    pace: Pace,
}

impl Progress {
    /// Shows progress on `terminal` according to `mode`. If stderr is not a terminal, there is never a bar.
    pub fn new(mode: ProgressMode, terminal: MultiProgress) -> Self {
        let output = match mode {
            ProgressMode::None => Output::None,
            ProgressMode::Auto | ProgressMode::Bar if bar_can_be_drawn() => Output::Bar,
            _ => Output::Plain(Box::new(io::stderr())),
        };
        Self::with_output(output, terminal)
    }

    fn with_output(output: Output, terminal: MultiProgress) -> Self {
        Self {
            output,
            terminal,
            title: String::new(),
            steps: 0,
            phase: None,
        }
    }

    /// Prints lines about the run, before its first epoch.
    pub fn start(&mut self, lines: &[String]) {
        for line in lines {
            self.print(line);
            log::info!(target: TRAIN_LOG, "{line}");
        }
    }

    /// Shows `what` while `work` runs, on a terminal with the elapsed seconds.
    pub fn working<T>(&mut self, what: &str, work: impl FnOnce() -> T) -> T {
        let Output::Bar = self.output else {
            self.print(&format!("{what} ..."));
            return work();
        };
        let spinner = self.terminal.add(ProgressBar::new_spinner());
        spinner.set_style(spinner_style());
        spinner.set_message(what.to_owned());
        spinner.enable_steady_tick(SPINNER_INTERVAL);
        let result = work();
        spinner.finish_and_clear();
        self.terminal.remove(&spinner);
        result
    }

    fn step_at(&mut self, now: Instant, done: usize, figures: &StepFigures) {
        let steps = self.steps;
        self.advance(now, done, steps, |eta| step_figures(figures, eta));
    }

    fn begin_phase(&mut self, steps: usize, name: &str) {
        self.end_phase();
        let bar = match self.output {
            Output::Bar => self.terminal.add(ProgressBar::new(steps as u64)),
            _ => ProgressBar::hidden(),
        };
        let title = format!("{}{name}", self.title);
        self.phase = Some(Phase {
            bar: bar.with_style(bar_style()).with_prefix(title.clone()),
            title,
            pace: Pace::new(Instant::now()),
        });
    }

    fn end_phase(&mut self) {
        if let Some(phase) = self.phase.take() {
            phase.bar.finish_and_clear();
            self.terminal.remove(&phase.bar);
        }
    }

    fn advance(
        &mut self,
        now: Instant,
        done: usize,
        steps: usize,
        figures: impl Fn(&str) -> String,
    ) {
        let Some(phase) = &mut self.phase else {
            return;
        };
        let eta = phase.pace.eta(done, steps, now);
        match &self.output {
            Output::Bar => {
                phase.bar.set_message(figures(&eta));
                phase.bar.set_position(done as u64);
            }
            Output::Plain(_) if phase.pace.line_is_due(now) => {
                let line = format!("{} {done}/{steps} {}", phase.title, figures(&eta));
                self.print(&line);
            }
            _ => {}
        }
    }

    /// Prints a line above a bar, if there is one. A closed stderr is no reason to stop training.
    fn print(&mut self, line: &str) {
        let line = text::one_line(line);
        let _ = match &mut self.output {
            Output::Bar => self.terminal.suspend(|| writeln!(io::stderr(), "{line}")),
            Output::Plain(out) => writeln!(out, "{line}"),
            Output::None => Ok(()),
        };
    }
}

impl Observer for Progress {
    fn epoch_begin(&mut self, epoch: usize, epochs: usize, steps: usize) {
        self.title = format!("Epoch {}/{epochs}", epoch + 1);
        self.steps = steps;
        self.begin_phase(steps, "");
    }

    fn step(&mut self, done: usize, figures: &StepFigures) {
        self.step_at(Instant::now(), done, figures);
    }

    fn evaluation(&mut self, done: usize, steps: usize) {
        if done == 0 {
            self.begin_phase(steps, " evaluation");
        }
        let now = Instant::now();
        self.advance(now, done, steps, |eta| format!("eta {eta}"));
    }

    /// Ends the epoch and prints the line that remains.
    fn epoch_end(&mut self, end: &EpochEnd) -> Result<()> {
        self.end_phase();
        let width = match self.output {
            Output::Bar => terminal_width(),
            _ => usize::MAX,
        };
        self.print(&epoch_line(&self.title, end.record, end.best, width));
        let full = epoch_line(&self.title, end.record, end.best, usize::MAX);
        log::info!(target: TRAIN_LOG, "{full}");
        Ok(())
    }

    /// Removes a bar that is still shown.
    fn finish(&mut self) {
        self.end_phase();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use indicatif::{InMemoryTerm, ProgressDrawTarget};

    use super::pace::PLAIN_INTERVAL;
    use super::*;
    use crate::run::evaluate::Evaluation;
    use crate::run::history::{Best, EpochRecord};
    use crate::system::logger::terminal;

    const VIEW: StepFigures = StepFigures {
        loss: 1.2344,
        acc: 0.5674,
        images_per_sec: 1234.4,
        input_wait_frac: 0.004,
    };

    pub const RECORD: EpochRecord = EpochRecord {
        epoch: 2,
        loss: 1.23449,
        acc: 0.56781,
        val_loss: Some(1.3456),
        val_acc: Some(0.52),
        lr: 0.1,
        seconds: 12.34,
        images_per_sec: 1234.0,
        input_wait_frac: 0.0,
    };

    pub const BEST: Option<Best> = Some(Best {
        epoch: 1,
        val_acc: 0.5432,
    });

    /// A writer whose bytes can be read while another owner writes to it.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn plain_output_is_the_start_block_and_one_line_for_a_short_epoch() {
        let out = Shared::default();
        let output = Output::Plain(Box::new(out.clone()));
        let mut progress = Progress::with_output(output, terminal());
        progress.start(&["device CPU".to_owned(), "depth 11".to_owned()]);
        progress.epoch_begin(2, 100, 390);
        progress.step(390, &VIEW);
        progress.evaluation(0, 78);
        progress.evaluation(78, 78);
        let end = EpochEnd {
            step: 1170,
            epochs: 100,
            record: &RECORD,
            records: &[RECORD],
            best: BEST,
            evaluation: &Evaluation::default(),
            tensors: &[],
        };
        progress.epoch_end(&end).unwrap();
        progress.finish();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "device CPU\ndepth 11\nEpoch 3/100  12.3s  loss 1.2345  acc 0.5678  val_loss 1.3456  val_acc 0.5200  \
             lr 0.1  (best 0.5432 @ 2)\n"
        );
    }

    #[test]
    fn a_long_epoch_gets_a_plain_line_every_half_minute() {
        let out = Shared::default();
        let output = Output::Plain(Box::new(out.clone()));
        let mut progress = Progress::with_output(output, terminal());
        progress.epoch_begin(0, 3, 390);
        let begin = progress.phase.as_ref().unwrap().pace.last_line;
        let due = begin + PLAIN_INTERVAL;
        // 100 steps in 20 s, 190 steps left: 38 s.
        progress.step_at(due - Duration::from_secs(20), 100, &VIEW);
        progress.step_at(due, 200, &VIEW);
        progress.step_at(due + Duration::from_secs(1), 201, &VIEW);
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "Epoch 1/3 200/390 loss 1.234 acc 0.567 1234 img/s eta 0:38 wait 0%\n"
        );
    }

    #[test]
    fn the_bar_of_a_long_run_fits_80_columns_and_goes_away() {
        let screen = InMemoryTerm::new(24, 80);
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let terminal = MultiProgress::with_draw_target(target);
        let mut progress = Progress::with_output(Output::Bar, terminal);
        progress.epoch_begin(99, 100, 390);
        let now = Instant::now();
        progress.step_at(now, 1, &VIEW);
        progress.step_at(now, 200, &VIEW);
        let line = screen.contents();
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.starts_with("Epoch 100/100 [=="), "{line}");
        let figures = "] 200/390 loss 1.234 acc 0.567 1234 img/s eta 0:00 wait 0%";
        assert!(line.ends_with(figures), "{line}");
        progress.evaluation(0, 78);
        progress.evaluation(39, 78);
        let line = screen.contents();
        assert!(line.starts_with("Epoch 100/100 evaluation [===="), "{line}");
        assert!(line.contains("] 39/78 eta "), "{line}");
        drop(progress);
        assert_eq!(screen.contents(), "");
    }

    #[test]
    fn work_without_steps_shows_its_name_and_the_seconds_and_goes_away() {
        let screen = InMemoryTerm::new(24, 80);
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let terminal = MultiProgress::with_draw_target(target);
        let mut progress = Progress::with_output(Output::Bar, terminal);
        let seen = progress.working("compiling", || {
            let start = Instant::now();
            // The first redraw comes from another thread.
            while screen.contents().is_empty() && start.elapsed() < Duration::from_secs(1800) {
                std::thread::yield_now();
            }
            screen.contents()
        });
        assert!(
            seen.starts_with("compiling ... ") && seen.ends_with('s'),
            "{seen}"
        );
        assert_eq!(screen.contents(), "");
    }

    #[test]
    fn no_output_means_no_output() {
        let screen = InMemoryTerm::new(24, 80);
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let terminal = MultiProgress::with_draw_target(target);
        let mut progress = Progress::new(ProgressMode::None, terminal);
        progress.start(&["device CPU".to_owned()]);
        progress.epoch_begin(0, 3, 390);
        progress.step(1, &VIEW);
        assert_eq!(screen.contents(), "");
    }

    #[test]
    fn modes_are_named_the_same_on_the_command_line_and_in_a_file() {
        for name in ["auto", "bar", "plain", "none"] {
            let on_the_command_line = ProgressMode::from_str(name, false).unwrap();
            let in_a_file = serde_json::to_string(&on_the_command_line).unwrap();
            assert_eq!(in_a_file, format!("\"{name}\""));
        }
    }
}
