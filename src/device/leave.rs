//! The end of a process that shares a run with others, in whatever way they were joined.

use std::time::Duration;

use crate::device::{coordinator, mpi};

/// How long a process that ends because of an error stays for the others to find it too, so that each says it itself and
/// ends with its own code.
pub const LINGERING: Duration = Duration::from_secs(5);

/// How this process ends.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// As all others do, at the same point.
    Agreed,
    /// By itself: with this exit code, and for this reason.
    Alone { code: u8, reason: &'a str },
}

/// Parts from the other processes, if this one was joined with any: once all of them have come to an end that they agreed
/// on, or else by ending them too.
pub fn leave(end: End) {
    coordinator::leave(end);
    mpi::leave(end);
}
