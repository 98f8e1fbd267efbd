//! SIGINT and SIGTERM: the first asks the run to save and end, the second ends it at once.
//!
//! libtpu installs signal handlers of its own when it is loaded, and a handler set before is lost.
//! So no handler is set: both signals are blocked in every thread, and one thread waits for them.
//! The module is the fence around the C library's signal calls.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};
use std::thread;

use crate::exit;

/// The signals caught so far, shared with the thread that waits for them.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The first signal; 0 before it.
    received: AtomicI32,
    /// Whether somebody looks at `received`; else a signal ends the process at once.
    watched: AtomicBool,
}

/// The run was asked to end; it saved its state first.
#[derive(Debug, thiserror::Error)]
#[error("{signal} received: the state after step {step} is saved, go on with --resume")]
pub struct Interrupted {
    pub signal: Signal,
    pub step: u64,
}

/// A signal that asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    /// What a shell reports for a process that this signal ended.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

impl Signals {
    /// Blocks SIGINT and SIGTERM in this thread and all that it starts, and waits for them on a
    /// thread of its own. Call it before any other thread starts.
    pub fn catch() -> io::Result<Self> {
        let signals = Self::default();
        let set = block()?;
        let shared = Arc::clone(&signals.shared);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                loop {
                    shared.handle(wait(&set));
                }
            })?;
        Ok(signals)
    }

    /// From now on the caller looks at [`Self::received`], and the first signal does nothing else.
    pub fn watch(&self) {
        self.shared.watched.store(true, Ordering::SeqCst);
    }

    /// The first signal that came.
    pub fn received(&self) -> Option<Signal> {
        match self.shared.received.load(Ordering::SeqCst) {
            0 => None,
            libc::SIGINT => Some(Signal::Interrupt),
            _ => Some(Signal::Terminate),
        }
    }
}

impl Shared {
    fn handle(&self, signal: i32) {
        let first = self
            .received
            .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        if !(first && self.watched.load(Ordering::SeqCst)) {
            end_now(signal);
        }
    }
}

/// Lets a child process receive the signals that this process has blocked.
pub fn deliver_to_child(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only pthread_sigmask is called, which is async-signal-safe, on a
    // set made before the fork.
    unsafe {
        let set = set();
        command.pre_exec(move || {
            check(libc::pthread_sigmask(
                libc::SIG_UNBLOCK,
                &set,
                std::ptr::null_mut(),
            ))
        })
    }
}

/// Until it is dropped, a crash of the process ends it with the exit code of an unusable device and a
/// message of its own.
pub struct CrashBlame {
    /// What happened on each of [`CRASHES`] before.
    before: [libc::sigaction; CRASHES.len()],
}

/// Signals of a crash: what a library does that is not what it says it is.
const CRASHES: [libc::c_int; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
];

/// The line that [`on_crash`] prints.
static CRASH_MESSAGE: AtomicPtr<String> = AtomicPtr::new(std::ptr::null_mut());

/// Has a crash print `message` and end the process with [`exit::DEVICE`].
///
/// A plugin runs in this process: nothing that it does to it can be caught as an error.
#[must_use]
pub fn blame_crashes_on(message: &str) -> CrashBlame {
    // Leaked: a handler may read it at any later time.
    let message = Box::leak(Box::new(format!("{message}\n")));
    CRASH_MESSAGE.store(message, Ordering::SeqCst);
    CrashBlame {
        before: CRASHES.map(|signal| exchange(signal, &crash_action())),
    }
}

impl Drop for CrashBlame {
    fn drop(&mut self) {
        for (signal, before) in CRASHES.into_iter().zip(&self.before) {
            // A plugin may have set handlers of its own meanwhile: those stay.
            let now = exchange(signal, before);
            if now.sa_sigaction != crash_action().sa_sigaction {
                exchange(signal, &now);
            }
        }
    }
}

fn crash_action() -> libc::sigaction {
    // SAFETY: zeroes are a valid sigaction with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_crash as *const () as libc::sighandler_t;
    // A crash may be an overflow of the stack.
    action.sa_flags = libc::SA_ONSTACK;
    action
}

extern "C" fn on_crash(_signal: libc::c_int) {
    let message = CRASH_MESSAGE.load(Ordering::SeqCst);
    // SAFETY: write and _exit may be called in a signal handler; the message was stored before the
    // handler was set, and is never freed.
    unsafe {
        if let Some(message) = message.as_ref() {
            libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len());
        }
        libc::_exit(exit::DEVICE.into())
    }
}

/// Sets what happens on `signal` and returns what happened before.
fn exchange(signal: libc::c_int, action: &libc::sigaction) -> libc::sigaction {
    let mut before = MaybeUninit::uninit();
    // SAFETY: the signal number is valid, so that the call cannot fail and writes `before`; the action is
    // one that was in place before, or has a handler that is async-signal-safe.
    unsafe {
        libc::sigaction(signal, action, before.as_mut_ptr());
        before.assume_init()
    }
}

/// Ends the process without running destructors, which would wait for a step under way.
fn end_now(signal: i32) -> ! {
    // SAFETY: _exit may be called from any thread at any time.
    unsafe { libc::_exit(128 + signal) }
}

fn block() -> io::Result<libc::sigset_t> {
    let set = set();
    // SAFETY: the set is initialised, and the old mask is not asked for.
    check(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) })?;
    Ok(set)
}

/// SIGINT and SIGTERM.
fn set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set before anything reads it; both signal numbers are
    // valid, so that sigaddset cannot fail.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        set.assume_init()
    }
}

/// Waits for the next signal of `set`.
fn wait(set: &libc::sigset_t) -> i32 {
    let mut signal = 0;
    // SAFETY: both pointers are valid for the call. It fails only for an invalid set, which this is
    // not.
    unsafe { libc::sigwait(set, &mut signal) };
    signal
}

/// An error number as the C library's newer calls return it.
fn check(number: libc::c_int) -> io::Result<()> {
    match number {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}
