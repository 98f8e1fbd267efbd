//! What keeps the processes of a run from meeting.

use pjrt::{StoreError, StoreErrorKind};

use super::VARIABLE;
use super::address::{Address, AddressError};
use crate::device::seconds::SecondsError;

/// What keeps processes from meeting.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    #[error(
        "there are {count} processes ({said_by}), and on GPUs they meet at an address of process 0, which nobody has named. \
         Give all of them the same --coordinator HOST:PORT, or MASTER_ADDR and MASTER_PORT in the environment: the machine \
         of process 0, and a port that is free there"
    )]
    Unnamed { count: usize, said_by: String },
    #[error(transparent)]
    Seconds(#[from] SecondsError),
    #[error("{0}. Correct them, or give all processes --coordinator HOST:PORT")]
    Variables(AddressError),
    #[error(
        "process 0 cannot listen at {address} (by {by}): {reason}. HOST must be the machine of process 0, and PORT free \
         there: with torchrun, MASTER_PORT may not be. Give all processes another --coordinator HOST:PORT"
    )]
    Listen {
        address: Address,
        by: String,
        reason: std::io::Error,
    },
    #[error(
        "{process} found no process 0 at {address} (by {by}) within {seconds} s: {reason}. Start process 0 there, with the \
         same address, and let no firewall be in between"
    )]
    Silent {
        process: String,
        address: Address,
        by: String,
        seconds: u64,
        reason: String,
    },
    #[error(
        "process {missing} of {count} did not come to {address} (by {by}) within {seconds} s; start all processes, with the \
         same address, and see what that one said. {VARIABLE} sets the time"
    )]
    Missing {
        missing: usize,
        count: usize,
        address: Address,
        by: String,
        seconds: u64,
    },
    #[error(
        "process {late} of {count} has not opened its devices within {seconds} s; see what it said last. {VARIABLE} sets \
         the time"
    )]
    Late {
        late: usize,
        count: usize,
        seconds: u64,
    },
    #[error("{process} cannot open its devices, so all end: {reason}")]
    Failed { process: String, reason: String },
    #[error("no network leads from the machine of process 0 to others ({0})")]
    NoNetwork(std::io::Error),
    #[error("the processes do not fit together: {0}")]
    Refused(String),
    #[error("{0}")]
    Lost(String),
}

impl CoordinatorError {
    /// Whether other settings are the remedy.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Unnamed { .. } | Self::Variables(_) | Self::Refused(_)
        )
    }
}

/// `error` of the store as one of the meeting; where the time was over, `late` says so, from what the store says.
pub fn fault(error: StoreError, late: impl FnOnce(String) -> CoordinatorError) -> CoordinatorError {
    match error.kind {
        StoreErrorKind::TimedOut => late(error.message),
        StoreErrorKind::Lost => CoordinatorError::Lost(error.message),
        _ => CoordinatorError::Refused(error.message),
    }
}
