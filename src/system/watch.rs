//! Ends this process when one of those that it works with has died on the same machine.
//!
//! Processes that wait for a dead one in shared memory would wait for ever. Over a network the connection breaks
//! instead, and most launchers end the rest anyway.

use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::system::proc;

/// Exit code of a process that ends because another did.
pub const FAILED: u8 = 1;

/// Whether the processes part as they agreed to.
static PARTING: AtomicBool = AtomicBool::new(false);

/// Where this process is and what its id means there: another with the same first part can be found by its id.
///
/// Two containers of one machine are two places, as each has numbers of its own for processes: a process would watch a
/// stranger that has the other's number. Those of another container are noticed as those of another machine are.
pub fn own_place() -> String {
    let kernel = proc::kernel_id();
    let ids = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{kernel} {} {}", ids.display(), std::process::id())
}

/// The part of a `place` ([`own_place`]) that processes share which can find each other by their ids.
fn numbering(place: &str) -> Option<&str> {
    place.rsplit_once(' ').map(|(numbering, _)| numbering)
}

/// Watches those processes of `places` ([`own_place`]) that can be found by their ids from here, but for number `own`. A
/// kernel that cannot watch processes does not matter: then nobody watches.
pub fn start(places: &[String], own: usize) {
    let mut watched = Vec::new();
    for (index, id) in neighbours(places, own) {
        watched.extend(open(id).map(|process| (index, process)));
    }
    if watched.is_empty() {
        return;
    }
    let count = places.len();
    let watching = thread::Builder::new().name("watch".to_owned());
    // Without it, all goes well but for the death of another process.
    let _ = watching.spawn(move || {
        let ended = wait_for_any(&watched);
        if !PARTING.load(Ordering::SeqCst) {
            // If stderr is closed, there is nowhere to report.
            let _ = writeln!(
                std::io::stderr(),
                "error: process {ended} of {count} has died, so process {own} ends too; what was saved is intact, go on \
                 with --resume"
            );
            end()
        }
    });
}

/// Ends this process because another did, at once: destructors would wait for the other.
pub fn end() -> ! {
    // SAFETY: _exit may be called from any thread at any time.
    unsafe { libc::_exit(FAILED.into()) }
}

/// From now on the others may end.
pub fn stop() {
    PARTING.store(true, Ordering::SeqCst);
}

/// Numbers and ids of the processes that number `own` can find by their ids.
fn neighbours(places: &[String], own: usize) -> Vec<(usize, i32)> {
    let here = numbering(&places[own]);
    let others = places.iter().enumerate();
    let others = others.filter(|(index, place)| *index != own && numbering(place) == here);
    let ids = others.filter_map(|(index, place)| {
        let id = place.rsplit_once(' ')?.1.parse().ok()?;
        Some((index, id))
    });
    ids.collect()
}

/// A descriptor that can be read from once the process has ended.
fn open(process: i32) -> Option<OwnedFd> {
    // SAFETY: the call takes plain numbers, and returns a descriptor that nobody else has, or -1.
    unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, process, 0);
        (descriptor >= 0).then(|| OwnedFd::from_raw_fd(descriptor as RawFd))
    }
}

/// Waits until one of the processes has ended, and returns its number.
fn wait_for_any(watched: &[(usize, OwnedFd)]) -> usize {
    let poll = |(_, process): &(usize, OwnedFd)| libc::pollfd {
        fd: process.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut polls: Vec<libc::pollfd> = watched.iter().map(poll).collect();
    loop {
        // SAFETY: the array is there for the call, with as many entries as it says.
        unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, -1) };
        if let Some(place) = polls.iter().position(|poll| poll.revents != 0) {
            return watched[place].0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn processes_of_another_machine_or_container_are_not_watched() {
        let places = [
            "a pid:[1] 10",
            "b pid:[1] 10",
            "a pid:[2] 11",
            "a pid:[1] 12",
        ];
        let places = places.map(str::to_owned);
        assert_eq!(neighbours(&places, 0), [(3, 12)]);
        assert!(neighbours(&places, 1).is_empty());
        let own = own_place();
        assert!(own.ends_with(&format!(" {}", std::process::id())), "{own}");
        assert!(own.len() < 128);
    }

    #[test]
    fn the_process_that_has_ended_is_found() {
        let mut sleeping = Command::new("sleep").arg("1000").spawn().unwrap();
        let mut ended = Command::new("true").spawn().unwrap();
        let watched = [(4, &sleeping), (7, &ended)];
        let watched = watched.map(|(index, child)| open(child.id() as i32).map(|fd| (index, fd)));
        match watched.into_iter().collect::<Option<Vec<_>>>() {
            Some(watched) => assert_eq!(wait_for_any(&watched), 7),
            None => eprintln!("skipped: this kernel cannot watch processes"),
        }
        ended.wait().unwrap();
        sleeping.kill().unwrap();
        sleeping.wait().unwrap();
    }
}
