//! Tries something in a copy of the process first, because it may end the process.
//!
//! This module is the fence around the C library calls that this takes.

use std::io::{self, PipeWriter, Read};
use std::os::fd::AsRawFd;
use std::panic::{self, AssertUnwindSafe};

/// Seconds after which the copy is ended.
const TIMEOUT_SECONDS: libc::c_uint = 60;

/// Runs `work` in a copy of the process. If `work` ended that copy, returns what it wrote to standard error;
/// returns `None` if it finished, or took longer than a minute.
///
/// # Errors
/// The system's, when the process cannot be copied.
pub fn last_words(work: impl FnOnce()) -> io::Result<Option<String>> {
    let (mut reader, writer) = io::pipe()?;
    // SAFETY: the copy has only this thread. It needs nothing that another thread may have left locked, except
    // the allocator, which the C library unlocks in the copy. If it did block on a lock, the alarm would end it.
    let copy = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => rehearse(work, &writer),
        copy => copy,
    };
    drop(writer);
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed)?;
    let status = wait_for(copy)?;
    let finished = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
    let too_long = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGALRM;
    let early = !finished && !too_long;
    Ok(early.then(|| String::from_utf8_lossy(&printed).into_owned()))
}

/// In the copy: runs `work` with `stderr` as its standard error, and exits.
fn rehearse(work: impl FnOnce(), stderr: &PipeWriter) -> ! {
    // SAFETY: both calls take plain numbers; the descriptor is open.
    unsafe {
        libc::alarm(TIMEOUT_SECONDS);
        libc::dup2(stderr.as_raw_fd(), libc::STDERR_FILENO);
    }
    // A panic must not unwind into what the original process was about to do.
    let _ = panic::catch_unwind(AssertUnwindSafe(work));
    // SAFETY: _exit may be called at any time. It runs no destructors or exit handlers of the original process.
    unsafe { libc::_exit(0) }
}

fn wait_for(process: libc::pid_t) -> io::Result<libc::c_int> {
    let mut status = 0;
    // SAFETY: the pointer is valid for the call, and nobody else waits for this child.
    match unsafe { libc::waitpid(process, &mut status, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_comes_to_its_end_leaves_no_last_words() {
        assert_eq!(last_words(|| eprintln!("unheard")).unwrap(), None);
    }

    #[test]
    fn what_ends_the_process_is_survived_and_its_words_are_heard() {
        let words = last_words(|| {
            // Not Rust's own stderr: another thread may have had its lock when the process was copied.
            // SAFETY: the bytes are there for the whole call.
            unsafe { libc::write(libc::STDERR_FILENO, b"farewell".as_ptr().cast(), 8) };
            std::process::abort()
        });
        assert_eq!(words.unwrap().as_deref(), Some("farewell"));
    }
}
