//! How an error ends the program: message and exit code.

use crate::cli::commands::bench::SetFailed;
use crate::cli::commands::predict::FolderError;
use crate::cli::config::ConfigError;
use crate::cli::outputs::OutputError;
use crate::data::DataError;
use crate::data::picture::UnreadPictures;
use crate::device::processes::{Processes, ProcessesError};
use crate::device::saved_executable::SavedExecutableError;
use crate::device::{self, DeviceError};
use crate::model::peers::PeersDiffer;
use crate::model::program_folder::ProgramFolderError;
use crate::model::tracing::NoTracing;
use crate::predict::PredictError;
use crate::run::checkpoint::CheckpointError;
use crate::run::run_dir::RunDirError;
use crate::run::trainer::NonFiniteLoss;
use crate::system::signals::Interrupted;
use crate::system::text;

pub const DONE: u8 = 0;
pub const RUNTIME: u8 = 1;
pub const USAGE: u8 = 2;
pub const DATA: u8 = 3;
pub const DEVICE: u8 = crate::device::CRASH_EXIT_CODE;
pub const NON_FINITE: u8 = 5;
/// Rust's exit code when the main thread panics.
pub const PANIC: u8 = 101;

/// `error` and its causes on one line. Text that is already in the message is left out: some libraries show their
/// cause and also return it.
pub fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain() {
        let text = device::xla_message(cause).unwrap_or_else(|| cause.to_string());
        if text::begins_with(&text, &message) {
            message = text;
        } else if !text::has_words(&message, &text) {
            message = format!("{message}: {text}");
        }
    }
    text::one_line(&message).into_owned()
}

/// The exit code of `error`, by the first cause in its chain that has one.
pub fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(RUNTIME)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if matches!(cause.downcast_ref(), Some(ConfigError::NothingWhole { .. })) {
        Some(DATA)
    } else if cause.is::<NoTracing>() {
        Some(USAGE)
    } else if let Some(ConfigError::Program(error)) = cause.downcast_ref() {
        Some(code_of_program(error))
    } else if let Some(error) = cause.downcast_ref() {
        Some(code_of_program(error))
    } else if is_usage(cause) {
        Some(USAGE)
    } else if cause.is::<DataError>() || is_bad_picture(cause) || is_bad_checkpoint(cause) {
        Some(DATA)
    } else if let Some(error) = cause.downcast_ref::<DeviceError>() {
        match error {
            // The device may exist, but the process is not allowed the threads to use it.
            DeviceError::Threads(_) => Some(RUNTIME),
            DeviceError::Coordinator(error) if error.is_usage() => Some(USAGE),
            _ => Some(DEVICE),
        }
    } else if let Some(error) = cause.downcast_ref::<SavedExecutableError>() {
        Some(if error.is_of_device() { DEVICE } else { DATA })
    } else if cause.is::<NonFiniteLoss>() {
        Some(NON_FINITE)
    } else if let Some(error) = cause.downcast_ref::<PredictError>() {
        code_of_prediction(error)
    } else if let Some(error) = cause.downcast_ref::<SetFailed>() {
        error.exit_code()
    } else {
        let interrupted = cause.downcast_ref::<Interrupted>()?;
        Some(interrupted.signal.exit_code())
    }
}

fn is_usage(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<ConfigError>()
        || cause.is::<RunDirError>()
        || cause.is::<OutputError>()
        || cause.is::<ProcessesError>()
        || cause.is::<PeersDiffer>()
}

/// Whether all processes of a run end with `error`, at the same point.
pub fn is_shared(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Interrupted>() || cause.is::<NonFiniteLoss>() || cause.is::<PeersDiffer>()
    })
}

/// Whether the first process of a run says the same as this one, which is another.
pub fn is_said_elsewhere(error: &anyhow::Error) -> bool {
    let differs = error.chain().any(|cause| cause.is::<PeersDiffer>());
    error.is::<Processes>() && is_shared(error) && !differs
}

/// What [`PredictError`] passes on is no cause of it.
fn code_of_prediction(error: &PredictError) -> Option<u8> {
    match error {
        PredictError::Checkpoint(error) => code_of(error),
        PredictError::Device(error) => code_of(error),
        PredictError::Run(error) => Some(code(error)),
        PredictError::Picture(_) | PredictError::Side { .. } | PredictError::Pixels { .. } => {
            Some(DATA)
        }
    }
}

fn is_bad_picture(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<UnreadPictures>() || cause.is::<FolderError>()
}

/// Of a folder with traced computations.
fn code_of_program(error: &ProgramFolderError) -> u8 {
    match error {
        ProgramFolderError::Device { .. }
        | ProgramFolderError::Kernels { .. }
        | ProgramFolderError::Compile { .. } => DEVICE,
        ProgramFolderError::Setting { .. } | ProgramFolderError::Occupied(_) => USAGE,
        _ => DATA,
    }
}

/// Whether a checkpoint cannot be found or used. One that cannot be written is a runtime error.
fn is_bad_checkpoint(cause: &(dyn std::error::Error + 'static)) -> bool {
    let written = |error: &CheckpointError| {
        matches!(
            error,
            CheckpointError::Write(_) | CheckpointError::Prune { .. }
        )
    };
    let error = cause.downcast_ref::<CheckpointError>();
    error.is_some_and(|error| !written(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_cause_below_other_contexts_decides() {
        let cause = DeviceError::Plugin {
            path: PathBuf::from("x.so"),
            reason: "a test".to_owned(),
        };
        let error = anyhow::Error::new(cause).context("opening").context("run");
        assert_eq!(code(&error), DEVICE);
    }

    #[test]
    fn what_keeps_a_network_from_predicting_has_the_code_that_it_has_by_itself() {
        let missing = || CheckpointError::Missing { path: "x".into() };
        let by_itself = PredictError::from(missing());
        let in_context = anyhow::Error::new(missing()).context("loading");
        for error in [by_itself, PredictError::from(in_context)] {
            let error = anyhow::Error::new(error).context("predicting");
            assert_eq!(code(&error), DATA);
            assert_eq!(message(&error).matches("there is no checkpoint").count(), 1);
        }
    }

    #[test]
    fn an_error_of_no_kind_is_a_runtime_error() {
        assert_eq!(code(&anyhow::anyhow!("boom")), RUNTIME);
    }

    /// An error that shows its cause and returns it, as some libraries do.
    #[derive(Debug, thiserror::Error)]
    #[error("row 3: {0}")]
    struct Talkative(#[source] std::num::ParseIntError);

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        let cause = "x".parse::<u8>().unwrap_err();
        let error = anyhow::Error::new(Talkative(cause)).context("cannot read\nx.csv");
        assert_eq!(
            message(&error),
            "cannot read\\nx.csv: row 3: invalid digit found in string"
        );
    }

    #[test]
    fn a_cause_that_begins_with_what_was_said_stands_for_both() {
        let cause = anyhow::anyhow!("process 1 of 2 found no process 0");
        let error = cause.context("process 1 of 2");
        assert_eq!(message(&error), "process 1 of 2 found no process 0");
    }

    #[test]
    fn a_cause_is_said_even_if_part_of_a_word_looks_like_it() {
        let twenty = anyhow::anyhow!("process 1 of 20 is late").context("process 1 of 2");
        assert_eq!(message(&twenty), "process 1 of 2: process 1 of 20 is late");
        let row = anyhow::anyhow!("row 1").context("cannot read row 12");
        assert_eq!(message(&row), "cannot read row 12: row 1");
    }

    #[cfg(feature = "trace")]
    #[test]
    fn xla_says_its_first_line_and_no_backtrace() {
        let error = xla::Error::XlaError {
            msg: "no such operation\nin full".to_owned(),
            backtrace: "0: main".to_owned(),
        };
        assert_eq!(message(&error.into()), "no such operation");
    }
}
