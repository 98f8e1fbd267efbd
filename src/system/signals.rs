//! The signals that ask a process to end: the first has the run save and end.
//!
//! libtpu installs signal handlers of its own when it is loaded, and a handler set before is lost.
//! So the program sets no handler: it blocks the signals in every thread, and one thread waits for them.
//! This module is the fence around the C library's signal calls.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};
use std::thread;

/// The signals that ask the process to end. A closed terminal sends SIGHUP; batch systems send SIGUSR1,
/// SIGUSR2 or SIGXCPU a while before they kill.
const ENDINGS: [(libc::c_int, &str); 6] = [
    (libc::SIGINT, "SIGINT"),
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGXCPU, "SIGXCPU"),
];

/// The signals that an impatient user sends again. The others come more than once by themselves: the
/// kernel sends SIGXCPU every second, and a closing terminal and its shell each send SIGHUP.
const INSISTENT: [libc::c_int; 2] = [libc::SIGINT, libc::SIGTERM];

/// The signals caught so far, shared with the thread that waits for them.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The first signal; 0 until one comes.
    received: AtomicI32,
    /// Whether one of [`INSISTENT`] has come.
    insisted: AtomicBool,
    /// Whether anybody looks at `received`. If not, a signal ends the process at once.
    watched: AtomicBool,
}

/// The run was asked to end; it saved its state first.
#[derive(Debug, thiserror::Error)]
#[error("{signal} received: the state after step {step} is saved, go on with --resume")]
pub struct Interrupted {
    pub signal: Signal,
    pub step: u64,
}

/// A signal that asks the process to end, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(libc::c_int);

impl Signal {
    /// The signal with this number, if it asks a process to end.
    pub fn of_number(number: u32) -> Option<Self> {
        let known = numbers().find(|known| *known as u32 == number);
        known.map(Signal)
    }

    pub fn number(self) -> u32 {
        self.0 as u32
    }

    /// What a shell reports for a process that this signal ended.
    pub fn exit_code(self) -> u8 {
        // Signal numbers end at 64.
        128 + self.0 as u8
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match ENDINGS.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl Signals {
    /// Blocks these signals in this thread and all threads that it starts, and waits for them on a thread of
    /// its own. A signal that the parent process ignored, as `nohup` does with SIGHUP, stays ignored. Call it
    /// before any other thread starts.
    pub fn catch() -> io::Result<Self> {
        let signals = Self::default();
        let ignored: Vec<_> = numbers().filter(|signal| is_ignored(*signal)).collect();
        let set = block()?;
        let shared = Arc::clone(&signals.shared);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                loop {
                    // A blocked signal arrives here even if it is ignored.
                    let signal = wait(&set);
                    if !ignored.contains(&signal) && shared.ends_at_once(signal) {
                        end_now(signal);
                    }
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
            number => Some(Signal(number)),
        }
    }
}

impl Shared {
    /// Takes note of `signal`. Returns whether the process is to end without saving.
    fn ends_at_once(&self, signal: libc::c_int) -> bool {
        // Only the first is kept.
        let _ = self
            .received
            .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
        let again = INSISTENT.contains(&signal) && self.insisted.swap(true, Ordering::SeqCst);
        again || !self.watched.load(Ordering::SeqCst)
    }
}

/// The numbers of [`ENDINGS`].
fn numbers() -> impl Iterator<Item = libc::c_int> {
    ENDINGS.into_iter().map(|(number, _)| number)
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

/// While it lives, a crash of the process prints a given message and ends with a given exit code.
pub struct CrashBlame {
    /// What each of [`CRASHES`] did before.
    before: [libc::sigaction; CRASHES.len()],
}

/// The signals of a crash, as a library causes it that is not what it claims to be.
const CRASHES: [libc::c_int; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
];

/// The line that [`on_crash`] prints, and the exit code that it ends with.
static CRASH: AtomicPtr<(String, u8)> = AtomicPtr::new(std::ptr::null_mut());

/// Makes a crash print `message` and end the process with `exit_code`.
///
/// A plugin runs inside this process, so its crash cannot be caught as an error.
#[must_use]
pub fn blame_crashes_on(message: &str, exit_code: u8) -> CrashBlame {
    // Leaked: a handler may read it at any later time.
    let crash = Box::leak(Box::new((format!("{message}\n"), exit_code)));
    CRASH.store(crash, Ordering::SeqCst);
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

extern "C" fn on_crash(signal: libc::c_int) {
    // SAFETY: the pair was stored before the handler was set, and is never freed or changed.
    let crash = unsafe { CRASH.load(Ordering::SeqCst).as_ref() };
    // SAFETY: write and _exit may be called in a signal handler.
    unsafe {
        let Some((message, exit_code)) = crash else {
            libc::_exit(128 + signal)
        };
        libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len());
        libc::_exit((*exit_code).into())
    }
}

/// Sets the action for `signal` and returns the previous one.
fn exchange(signal: libc::c_int, action: &libc::sigaction) -> libc::sigaction {
    let mut before = MaybeUninit::uninit();
    // SAFETY: the signal number is valid, so that the call cannot fail and writes `before`; the action is
    // one that was in place before, or has a handler that is async-signal-safe.
    unsafe {
        libc::sigaction(signal, action, before.as_mut_ptr());
        before.assume_init()
    }
}

/// Ends the process without running destructors, which would wait for the current step.
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

/// Whether the process ignores `signal`; that may be inherited.
fn is_ignored(signal: libc::c_int) -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: the signal number is valid, so that the call cannot fail; it changes nothing and writes `now`.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr());
        now.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// The set of [`ENDINGS`].
fn set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set before anything reads it; all signal numbers are
    // valid, so that sigaddset cannot fail.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in numbers() {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
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

/// Turns an error number, as the C library's newer calls return it, into an error.
fn check(number: libc::c_int) -> io::Result<()> {
    match number {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    /// Which of the signals that come to a watched process, one after the other, end it at once.
    fn ends(signals: &[libc::c_int]) -> Vec<bool> {
        let shared = Shared::default();
        shared.watched.store(true, Ordering::SeqCst);
        let ends = |signal: &libc::c_int| shared.ends_at_once(*signal);
        signals.iter().map(ends).collect()
    }

    #[test]
    fn the_second_sigint_or_sigterm_ends_at_once_and_no_other_repeated_signal_does() {
        let (int, term, hup) = (libc::SIGINT, libc::SIGTERM, libc::SIGHUP);
        assert_eq!(ends(&[int, term]), [false, true]);
        assert_eq!(ends(&[term, term]), [false, true]);
        // A terminal that closes, and a service manager that ends a service.
        assert_eq!(ends(&[hup, hup, hup]), [false; 3]);
        assert_eq!(ends(&[term, hup]), [false; 2]);
        assert_eq!(ends(&[hup, term, term]), [false, false, true]);
        // A batch system's warning, then its request.
        assert_eq!(ends(&[libc::SIGUSR1, term]), [false; 2]);
        assert_eq!(ends(&[libc::SIGXCPU; 3]), [false; 3]);
    }

    #[test]
    fn the_first_signal_is_the_one_that_is_reported() {
        let signals = Signals::default();
        signals.watch();
        for signal in [libc::SIGUSR2, libc::SIGTERM] {
            signals.shared.ends_at_once(signal);
        }
        let received = signals.received().unwrap();
        assert_eq!(received.to_string(), "SIGUSR2");
        assert_eq!(received.exit_code(), 140);
    }

    #[test]
    fn a_child_process_receives_what_this_one_has_blocked() {
        block().unwrap();
        for (signal, name) in ENDINGS {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("kill -{signal} $$; exit 0")]);
            // What started the tests may have had this one ignored, as nohup does.
            let heed = move || {
                // SAFETY: the default action needs no handler.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
                Ok(())
            };
            // SAFETY: signal(2) may be called between fork and exec.
            unsafe { command.pre_exec(heed) };
            let status = deliver_to_child(&mut command).status().unwrap();
            assert_eq!(status.signal(), Some(signal), "{name}");
        }
    }

    #[test]
    fn before_anybody_watches_a_signal_ends_at_once() {
        assert!(Shared::default().ends_at_once(libc::SIGHUP));
    }
}
