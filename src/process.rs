//! What belongs to the process as a whole, handed to every command.

use crate::logger::Logger;
use crate::signals::Signals;

/// The process's log and the signals it was sent.
pub struct Process {
    pub logger: &'static Logger,
    pub signals: Signals,
}
