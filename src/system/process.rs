//! What belongs to the process as a whole, handed to every command.

use crate::system::logger::Logger;
use crate::system::signals::Signals;

/// The process's log and the signals it was sent.
pub struct Process {
    pub logger: &'static Logger,
    pub signals: Signals,
}
