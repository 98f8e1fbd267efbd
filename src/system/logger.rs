//! Where log messages go: the terminal, and the run's `train.log` once there is one.

use std::env;
use std::fs::File;
use std::io::{IsTerminal, Write, stderr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use indicatif::{MultiProgress, ProgressDrawTarget};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::system::text;

/// Target prefix of the program's own messages.
const CRATE: &str = env!("CARGO_CRATE_NAME");

/// Target of messages for `train.log` alone; the terminal shows the same in its own form.
pub const TRAIN_LOG: &str = "resnet_xla::train_log";

/// The most redraws of a bar per second.
const REDRAWS_PER_SECOND: u8 = 10;

/// The program's logger.
pub struct Logger {
    /// The terminal that progress bars are drawn on: messages make room for them.
    terminal: MultiProgress,
    stderr: env_logger::Logger,
    file: Mutex<Option<File>>,
}

impl Logger {
    /// Installs the logger for the process. Without `-v` flags it shows the program's own
    /// information and everybody's warnings, with one `-v` also debug messages; `RUST_LOG` overrides it.
    pub fn install(verbose: u8) -> Result<&'static Self> {
        let own_level = match verbose {
            0 => LevelFilter::Info,
            _ => LevelFilter::Debug,
        };
        let stderr = env_logger::Builder::new()
            .filter_level(LevelFilter::Warn)
            .filter_module(CRATE, own_level)
            .filter_module(TRAIN_LOG, LevelFilter::Off)
            .parse_default_env()
            .format(|out, record| match record.level() {
                Level::Info => writeln!(out, "{}", line(record)),
                level => writeln!(out, "{}: {}", name(level), line(record)),
            })
            .build();
        // The log crate wants a logger that lives as long as the process.
        let logger: &'static Self = Box::leak(Box::new(Self {
            terminal: terminal(),
            stderr,
            file: Mutex::new(None),
        }));
        log::set_logger(logger).context("installing the logger")?;
        log::set_max_level(LevelFilter::Debug);
        Ok(logger)
    }

    /// The terminal to draw progress on.
    pub fn terminal(&self) -> MultiProgress {
        self.terminal.clone()
    }

    /// From now on only errors are shown: another process speaks for this one.
    pub fn leave_the_rest_to_another(&self) {
        log::set_max_level(LevelFilter::Error);
    }

    /// From now on also appends messages to the file at `path`, whatever the terminal shows.
    pub fn also_to(&self, path: &Path) -> Result<()> {
        let file = File::options()
            .create(true)
            .append(true)
            // A link planted in the run's folder must not lead the log elsewhere.
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .with_context(|| format!("cannot open the log file {}", path.display()))?;
        *self.lock() = Some(file);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.stderr.enabled(metadata) || metadata.target().starts_with(CRATE)
    }

    fn log(&self, record: &Record) {
        if self.stderr.matches(record) {
            self.terminal.suspend(|| self.stderr.log(record));
        }
        if let Some(file) = self.lock().as_mut()
            && record.target().starts_with(CRATE)
        {
            // A log line that cannot be written must not end a run.
            let _ = writeln!(file, "{}: {}", name(record.level()), line(record));
        }
    }

    fn flush(&self) {
        self.stderr.flush();
    }
}

/// The message of a record, on one line whatever names it contains.
fn line(record: &Record) -> String {
    text::one_line(&record.args().to_string()).into_owned()
}

/// The stderr that progress bars are drawn on. Messages must go through it too, or they would break a bar.
pub fn terminal() -> MultiProgress {
    MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND))
}

/// Whether stderr is a terminal that can show a bar.
pub fn bar_can_be_drawn() -> bool {
    stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}
