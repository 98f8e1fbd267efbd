//! Which exit code an error stands for.

use crate::checkpoint::CheckpointError;
use crate::config::ConfigError;
use crate::data::DataError;
use crate::device::DeviceError;
use crate::outputs::OutputError;
use crate::picture_file::UnreadPictures;
use crate::run_dir::RunDirError;
use crate::signals::Interrupted;
use crate::train::NonFiniteLoss;

pub const RUNTIME: u8 = 1;
pub const USAGE: u8 = 2;
pub const DATA: u8 = 3;
pub const DEVICE: u8 = 4;
pub const NON_FINITE: u8 = 5;

/// The exit code of `error`, by the first cause in its chain that has one.
pub fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(RUNTIME)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if cause.is::<ConfigError>() || cause.is::<RunDirError>() || cause.is::<OutputError>() {
        Some(USAGE)
    } else if cause.is::<DataError>() || cause.is::<UnreadPictures>() || is_bad_checkpoint(cause) {
        Some(DATA)
    } else if cause.is::<DeviceError>() {
        Some(DEVICE)
    } else if cause.is::<NonFiniteLoss>() {
        Some(NON_FINITE)
    } else {
        let interrupted = cause.downcast_ref::<Interrupted>()?;
        Some(interrupted.signal.exit_code())
    }
}

/// Whether a checkpoint cannot be found or used; one that cannot be written is the machine's fault.
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
    fn an_error_of_no_kind_is_a_runtime_error() {
        assert_eq!(code(&anyhow::anyhow!("boom")), RUNTIME);
    }
}
