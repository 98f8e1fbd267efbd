//! Ends this process when another of its run has ended without having agreed to, or gives no sign of life: on GPUs, those
//! that are left would wait for it for ever.
//!
//! A process that ends because of an error says so first, and stays a moment: the others may be about to find the same
//! error, and then each of them says so itself.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use pjrt::{KeyValueStore, StoreError, StoreErrorKind};

use super::beats::{Heard, Pulse};
use super::server::{FAREWELL, Server};
use crate::device::heartbeat::{self, Heartbeat};
use crate::device::leave::{End, LINGERING};
use crate::system::{text, watch};

/// Beginning of the keys under which processes put the names of their machines.
pub const HOSTS: &str = "resnet-xla/host";

/// Process 0 puts it when all have come to an end that they agreed on.
const END: &[u8] = b"resnet-xla/end";

/// Longer than a run takes.
const WHOLE_RUN: Duration = Duration::from_millis(u32::MAX as u64);

/// This process's part of the run that it watches.
static WATCHED: OnceLock<Part> = OnceLock::new();

/// How long process 0, which ends because of another, stays so that all hear the reason from it.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

const _: () = assert!(
    heartbeat::NOTICED.as_millis() + LAST_ANSWERS.as_millis() < heartbeat::PROMISED.as_millis()
);

/// Whether this process ends by itself, or all have come to an end that they agreed on.
static LEAVING: AtomicBool = AtomicBool::new(false);

/// One process of a run.
pub struct Part {
    pub index: usize,
    pub count: usize,
    pub store: Arc<dyn KeyValueStore>,
    /// In process 0.
    pub server: Option<Server>,
}

/// The key that process `index` puts before it ends as agreed.
pub fn parting(index: usize) -> String {
    format!("resnet-xla/parting/{index}")
}

/// The key under which process `index` puts why it ends, if that was not agreed.
pub fn last_words(index: usize) -> String {
    format!("resnet-xla/last-words/{index}")
}

/// From now on this process ends when another does that has not said so, or gives no sign of life for `limit`. `pulse` is
/// the way to process 0, and `hosts` names the machine of each.
pub fn start(part: Part, pulse: Option<Pulse>, hosts: Vec<String>, limit: Duration) {
    // A process has one run.
    let part = WATCHED.get_or_init(|| part);
    part.watch(move |error| part.end_over(error));
    let beating = part.beat(pulse, hosts, limit, move |error| part.end_over(error));
    if let Err(error) = beating {
        log::warn!("a process that hangs is not noticed: {error}");
    }
}

/// Whether this process watches the others.
pub fn is_watching() -> bool {
    WATCHED.get().is_some()
}

/// Parts from the other processes, if this one watches any.
pub fn leave(end: End) {
    LEAVING.store(true, Ordering::SeqCst);
    match (WATCHED.get(), end) {
        (None, _) => {}
        (Some(part), End::Agreed) => part.leave(),
        (Some(part), End::Alone { reason, .. }) => part.fail(reason, LINGERING),
    }
}

impl Part {
    /// Calls `lost` from a thread of its own if another process ends before all have agreed to.
    fn watch(&self, lost: impl FnOnce(&StoreError) + Send + 'static) {
        let store = Arc::clone(&self.store);
        let thread = thread::Builder::new().name("watch".to_owned());
        // Without it, all goes well but for the end of another process.
        let _ = thread.spawn(move || match store.get(END, WHOLE_RUN) {
            Ok(_) => LEAVING.store(true, Ordering::SeqCst),
            Err(error) if error.kind == StoreErrorKind::TimedOut => {}
            Err(error) => lost(&error),
        });
    }

    /// Shows that this process is there, and notices when another does not for `limit`: process 0 hears all, and the others
    /// hear it. Process 0 says so to all, itself included; another calls `lost`.
    fn beat(
        &self,
        pulse: Option<Pulse>,
        hosts: Vec<String>,
        limit: Duration,
        lost: impl FnOnce(&StoreError) + Send + 'static,
    ) -> std::io::Result<()> {
        let silence = |silent: &str| StoreError::new(StoreErrorKind::Lost, silent);
        match (&self.server, pulse) {
            (Some(server), _) => {
                let (heard, table) = (server.heard(), server.table());
                let close = server.table();
                let beat = move |all: &mut [u64]| {
                    hear(&heard, &*table, all);
                    false
                };
                let close = move |silent: &str| close.close(silence(silent));
                Heartbeat::start(beat, self.index, hosts, limit, close)?;
            }
            (None, Some(mut pulse)) => {
                let beat = move |all: &mut [u64]| {
                    all.fill(1);
                    all[0] = pulse.beat().into();
                    false
                };
                let lost = move |silent: &str| lost(&silence(silent));
                Heartbeat::start(beat, self.index, hosts, limit, lost)?;
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// Ends this process because of `error` in another.
    fn end_over(&self, error: &StoreError) {
        if LEAVING.load(Ordering::SeqCst) {
            return;
        }
        let own = self.index;
        // If stderr is closed, there is nowhere to report.
        let _ = writeln!(
            std::io::stderr(),
            "error: {error}. Process {own} ends too; what was saved is intact, go on with --resume"
        );
        if let Some(server) = &self.server {
            server.wait_until_alone(LAST_ANSWERS);
        }
        watch::end()
    }

    fn leave(&self) {
        match &self.server {
            // Who is still on the way out must hear it before this process is gone.
            Some(server) => {
                let _ = self.store.put(END, b"");
                server.wait_until_alone(FAREWELL);
            }
            // If process 0 has gone, it has said why.
            None => {
                let _ = self.store.put(parting(self.index).as_bytes(), b"");
            }
        }
    }

    /// Says `reason`, and waits until all have said why they end, but not longer than `lingering`.
    fn fail(&self, reason: &str, lingering: Duration) {
        let name = format!("process {} of {}", self.index, self.count);
        let words = match text::begins_with(reason, &name) {
            true => reason.to_owned(),
            false => format!("{name}: {reason}"),
        };
        let until = Instant::now() + lingering;
        let left = || until.saturating_duration_since(Instant::now());
        // If process 0 has gone, it has said why.
        let _ = self
            .store
            .put(last_words(self.index).as_bytes(), words.as_bytes());
        match &self.server {
            Some(server) => {
                let mut others = 1..self.count;
                let said = |other| self.store.get(last_words(other).as_bytes(), left());
                let _ = others.try_for_each(|other| said(other).map(drop));
                // Who has found no error of its own hears this one, and who has may go.
                server.dismiss(&words);
            }
            None => {
                let _ = self.store.get(END, left());
            }
        }
    }
}

/// Sets `all[i]` for each process i that was heard since this was asked last, or has parted: such a one may have ended.
fn hear(heard: &Heard, store: &dyn KeyValueStore, all: &mut [u64]) {
    for (process, in_time) in all.iter_mut().enumerate() {
        let has_parted = || store.try_get(parting(process).as_bytes()).is_ok();
        *in_time = (heard.take(process) || has_parted()).into();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::address::Address;
    use super::super::client::Client;
    use super::super::message::Hello;
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn hello(process: u32) -> Hello {
        Hello {
            program: "resnet-xla".to_owned(),
            processes: 3,
            process,
            place: format!("a {process}"),
        }
    }

    /// The three parts of a run, and what process 0 hears of the loss of another.
    fn three() -> ([Part; 3], mpsc::Receiver<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let address: Address = address.parse().unwrap();
        let server = Server::start(listener, hello(0)).unwrap();
        let other = |process: u32| Part {
            index: process as usize,
            count: 3,
            store: Arc::new(
                Client::connect(&address, hello(process), Instant::now() + LONG).unwrap(),
            ),
            server: None,
        };
        let others = [other(1), other(2)];
        let first = Part {
            index: 0,
            count: 3,
            store: server.table(),
            server: Some(server),
        };
        let (say, hear) = mpsc::channel();
        first.watch(move |error| say.send(error.to_string()).unwrap());
        let [second, third] = others;
        ([first, second, third], hear)
    }

    #[test]
    fn a_process_that_ends_as_agreed_ends_no_other() {
        let ([first, second, third], lost) = three();
        for part in [second, third] {
            part.leave();
        }
        // Returns once the connections of the others have ended.
        first.leave();
        assert_eq!(lost.recv(), Err(mpsc::RecvError), "its watch has ended");
    }

    #[test]
    fn a_process_that_has_parted_is_not_missed() {
        let ([first, second, _third], _lost) = three();
        let server = first.server.as_ref().unwrap();
        let heard = server.heard();
        heard.note(2);
        second.leave();
        let hear = || {
            let mut all = [0; 3];
            super::hear(&heard, &*first.store, &mut all);
            all
        };
        assert_eq!(hear(), [0, 1, 1]);
        assert_eq!(hear(), [0, 1, 0]);
    }

    #[test]
    fn an_error_that_all_find_ends_nobody_before_each_has_said_it() {
        let ([first, second, third], lost) = three();
        let said = |process| first.store.get(last_words(process).as_bytes(), LONG);
        thread::scope(|scope| {
            let others =
                [second, third].map(|part| scope.spawn(move || part.fail("the same", LONG)));
            for process in [1, 2] {
                said(process).unwrap();
            }
            assert_eq!(lost.try_recv(), Err(mpsc::TryRecvError::Empty));
            assert!(others.iter().all(|other| !other.is_finished()));
            // Returns once the others have gone.
            first.fail("the same", LONG);
        });
        assert_eq!(lost.recv().unwrap(), "process 0 of 3: the same");
        let words = [1, 2].map(|process| String::from_utf8(said(process).unwrap()).unwrap());
        assert_eq!(
            words,
            ["process 1 of 3: the same", "process 2 of 3: the same"]
        );
    }

    #[test]
    fn an_error_of_one_process_is_told_to_the_others() {
        let ([_first, second, _third], lost) = three();
        second.fail("process 1 of 3: its disk is full", Duration::ZERO);
        assert_eq!(lost.try_recv(), Err(mpsc::TryRecvError::Empty));
        drop(second);
        assert_eq!(lost.recv().unwrap(), "process 1 of 3: its disk is full");

        let ([first, second, third], _lost) = three();
        let (say, hear) = mpsc::channel();
        third.watch(move |error| say.send(error.to_string()).unwrap());
        thread::scope(|scope| {
            scope.spawn(|| first.fail("its disk is full", Duration::ZERO));
            assert_eq!(hear.recv().unwrap(), "process 0 of 3: its disk is full");
            drop([second, third]);
        });
    }

    #[test]
    fn a_process_that_ends_without_a_word_is_told_to_the_others() {
        let ([_first, second, third], lost) = three();
        let (say, hear) = mpsc::channel();
        third.watch(move |error| say.send(error.to_string()).unwrap());
        drop(second);
        for lost in [lost, hear] {
            let said = lost.recv().unwrap();
            assert!(said.starts_with("process 1 of 3 has ended"), "{said}");
        }
    }
}
