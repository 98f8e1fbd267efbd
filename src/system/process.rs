//! What belongs to the whole process and is handed to every command.

use crate::system::logger::Logger;
use crate::system::signals::Signals;

/// The process's log and the signals it was sent.
pub struct Process {
    pub logger: &'static Logger,
    pub signals: Signals,
}
