//! Brings the processes of a run together: who they are, which of them share GPUs, and when all have come to a point.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pjrt::{KeyValueStore, StoreError};

use super::beats::Pulse;
use super::error::{CoordinatorError, fault};
use super::meeting::{Meeting, Place, Reached, own_hello};
use super::overheard::Overheard;
use super::server::Server;
use super::watch::{self, HOSTS, Part};
use crate::device::heartbeat;
use crate::device::processes::Processes;
use crate::system::proc;

/// Brings `processes` together at `place`, and waits for `patience` until all are there. Those that say the same as `gpus`
/// have the same GPUs to divide.
pub fn join<'a>(
    processes: &'a Processes,
    place: Place,
    gpus: &str,
    patience: Duration,
) -> Result<Joined<'a>, CoordinatorError> {
    let limit = heartbeat::limit()?;
    let Place { at, listener } = place;
    let meeting = Meeting {
        patience,
        until: Instant::now() + patience,
        processes,
        at,
    };
    let Reached {
        store,
        server,
        pulse,
    } = meeting.store(own_hello(processes), listener)?;
    let mut joined = Joined {
        meeting,
        store,
        server,
        pulse,
        here: (0, 1),
        hosts: Vec::new(),
        limit,
    };
    let host = proc::hostname().unwrap_or_else(|| "a machine without a name".to_owned());
    let all = joined.of_all(GPUS, gpus);
    let all = all.and_then(|gpus| Ok((gpus, joined.of_all(HOSTS, &host)?)));
    let (gpus, hosts) = all.inspect_err(|error| joined.tell(error))?;
    joined.here = among_equals(&gpus, processes.index);
    joined.hosts = hosts;
    Ok(joined)
}

/// What a process has once all have met.
pub struct Joined<'a> {
    meeting: Meeting<'a>,
    store: Arc<dyn KeyValueStore>,
    /// In process 0.
    server: Option<Server>,
    /// In the others.
    pulse: Option<Pulse>,
    /// The number of this process among those that have the same GPUs, and how many these are.
    pub here: (usize, usize),
    /// The machine of each process.
    hosts: Vec<String>,
    /// How long a process may give no sign of life.
    limit: Duration,
}

/// Beginnings of the program's own keys, which no plugin uses.
const GPUS: &str = "resnet-xla/gpus";
const READY: &str = "resnet-xla/ready";
const LEFT: &str = "resnet-xla/left";

impl Joined<'_> {
    /// From now on this process ends when another one does without having agreed to, or hangs: see
    /// [`leave`](super::leave).
    pub fn watch(self) {
        let Processes { index, count, .. } = *self.meeting.processes;
        let part = Part {
            index,
            count,
            store: self.store,
            server: self.server,
        };
        watch::start(part, self.pulse, self.hosts, self.limit);
    }

    /// What `open` opens through a plugin, which finds the other processes in the store that it gets.
    ///
    /// # Errors
    /// What keeps this process from going on, which the others hear: the end of another process, if the plugin was told of
    /// that, or else what `open` says.
    pub fn open<T, E: fmt::Display>(
        &self,
        open: impl FnOnce(Arc<dyn KeyValueStore>) -> Result<T, E>,
    ) -> Result<T, CoordinatorError> {
        let store = Arc::new(Overheard::new(Arc::clone(&self.store)));
        let opened = open(Arc::clone(&store) as Arc<dyn KeyValueStore>);
        opened.map_err(|reason| match store.heard() {
            Some(lost) => {
                let error = CoordinatorError::Lost(lost.message);
                self.tell(&error);
                error
            }
            None => self.fail(&reason),
        })
    }

    /// Tells the others that the devices of this process cannot be opened, and returns what it says itself.
    pub fn fail(&self, reason: &impl fmt::Display) -> CoordinatorError {
        let error = CoordinatorError::Failed {
            process: self.meeting.processes.to_string(),
            reason: reason.to_string(),
        };
        self.tell(&error);
        error
    }

    /// Waits until all processes have come here. If one has ended, all others hear of it.
    pub fn meet(&self) -> Result<(), CoordinatorError> {
        let met = match self.meeting.processes.index {
            0 => self.wait_for_all(),
            index => self.wait_for_the_first(index),
        };
        met.inspect_err(|error| self.tell(error))
    }

    fn wait_for_all(&self) -> Result<(), CoordinatorError> {
        let others = 1..self.meeting.processes.count;
        let patience = self.meeting.patience;
        self.wait_for(READY, others.clone(), Instant::now() + patience)?;
        self.put(READY, 0, "")?;
        self.wait_for(LEFT, others, Instant::now() + patience)
    }

    fn wait_for_the_first(&self, index: usize) -> Result<(), CoordinatorError> {
        self.put(READY, index, "")?;
        // Process 0, which may have opened its devices later, names the one that is late.
        let until = Instant::now() + 2 * self.meeting.patience;
        self.wait_for(READY, 0..1, until)?;
        // Once process 0 has this, it may end before it answers.
        let _ = self.put(LEFT, index, "");
        Ok(())
    }

    /// What each process says under `what`, once it has told the others; this one says `own`.
    fn of_all(&self, what: &str, own: &str) -> Result<Vec<String>, CoordinatorError> {
        let Processes { index, count, .. } = *self.meeting.processes;
        self.put(what, index, own)?;
        let of = |process| {
            let said = self.get(what, process, self.meeting.until);
            let missing = |why| self.meeting.missing(process, why);
            let said = said.map_err(|error| fault(error, missing))?;
            Ok(String::from_utf8_lossy(&said).into_owned())
        };
        (0..count).map(of).collect()
    }

    /// Waits until each of these processes has come to `what`.
    fn wait_for(
        &self,
        what: &str,
        processes: Range<usize>,
        until: Instant,
    ) -> Result<(), CoordinatorError> {
        for process in processes {
            let late = |_| CoordinatorError::Late {
                late: process,
                count: self.meeting.processes.count,
                seconds: self.meeting.patience.as_secs(),
            };
            let came = self.get(what, process, until);
            came.map_err(|error| fault(error, late))?;
        }
        Ok(())
    }

    fn put(&self, what: &str, process: usize, value: &str) -> Result<(), CoordinatorError> {
        let key = format!("{what}/{process}");
        let put = self.store.put(key.as_bytes(), value.as_bytes());
        put.map_err(|error| fault(error, CoordinatorError::Lost))
    }

    fn get(&self, what: &str, process: usize, until: Instant) -> Result<Vec<u8>, StoreError> {
        let key = format!("{what}/{process}");
        let left = until.saturating_duration_since(Instant::now());
        self.store.get(key.as_bytes(), left)
    }

    /// Tells the others why this process, which ends now, does.
    fn tell(&self, reason: &CoordinatorError) {
        let reason = reason.to_string();
        match &self.server {
            Some(server) => server.dismiss(&reason),
            // They hear it when its connections end. If process 0 is not there, it has told them why.
            None => {
                let key = watch::last_words(self.meeting.processes.index);
                let _ = self.store.put(key.as_bytes(), reason.as_bytes());
            }
        }
    }
}

/// The number of process `own` among those that say the same, and how many these are.
fn among_equals(said: &[String], own: usize) -> (usize, usize) {
    let is_equal = |other: &&String| **other == said[own];
    let before = said[..own].iter().filter(is_equal).count();
    let all = said.iter().filter(is_equal).count();
    (before, all)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread;

    use super::super::Group;
    use super::super::address::{Address, Named};
    use super::super::message;
    use super::super::tests::process;
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn at(address: &str) -> Address {
        address.parse().unwrap()
    }

    /// An error of joining as process `index` of two at `address`, with little patience.
    fn fault(index: usize, address: &str) -> CoordinatorError {
        let (processes, address) = (process(index, 2), at(address));
        let group = Group {
            processes: &processes,
            coordinator: Some(&address),
        };
        let place = group.place();
        let joined =
            place.and_then(|place| join(&processes, place, "", Duration::from_millis(300)));
        joined.err().expect("nobody else is there")
    }

    #[test]
    fn a_process_that_is_alone_says_whom_it_waited_for_and_where() {
        let missing = fault(0, "127.0.0.1:0").to_string();
        assert!(
            missing.starts_with("process 1 of 2 did not come to 127.0.0.1:0 (by --coordinator)"),
            "{missing}"
        );
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap().to_string();
        let refused = fault(0, &taken).to_string();
        assert!(
            refused.starts_with(&format!("process 0 cannot listen at {taken}")),
            "{refused}"
        );
        // Nothing listens there: no program may, but the system's own.
        let silent = fault(1, "127.0.0.1:1").to_string();
        assert!(
            silent.starts_with("process 1 of 2 found no process 0 at 127.0.0.1:1"),
            "{silent}"
        );
    }

    #[test]
    fn what_answers_and_is_no_process_0_is_told_from_one() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = message::send(&mut stream, b"\xffHTTP/1.1 400 Bad Request");
            }
        });
        let silent = fault(1, &address).to_string();
        assert!(
            silent.contains("what answers is no such program"),
            "{silent}"
        );
    }

    #[test]
    fn processes_that_have_the_same_gpus_are_numbered_among_themselves() {
        let said = ["a", "b", "a", "a"].map(str::to_owned);
        assert_eq!(among_equals(&said, 0), (0, 3));
        assert_eq!(among_equals(&said, 1), (0, 1));
        assert_eq!(among_equals(&said, 3), (2, 3));
    }

    /// A store in which all is there, a little later, and which notes how long it was asked to wait.
    #[derive(Default)]
    struct Later(Mutex<Vec<Duration>>);

    impl KeyValueStore for Later {
        fn put(&self, _: &[u8], _: &[u8]) -> Result<(), StoreError> {
            Ok(())
        }

        fn get(&self, _: &[u8], timeout: Duration) -> Result<Vec<u8>, StoreError> {
            self.0.lock().unwrap().push(timeout);
            thread::sleep(Duration::from_millis(2));
            Ok(Vec::new())
        }

        fn try_get(&self, _: &[u8]) -> Result<Vec<u8>, StoreError> {
            unreachable!("nobody asks for what may not be there")
        }
    }

    #[test]
    fn all_who_are_waited_for_have_one_deadline() {
        let processes = process(0, 4);
        let store = Arc::new(Later::default());
        let joined = Joined {
            meeting: Meeting {
                patience: LONG,
                until: Instant::now() + LONG,
                processes: &processes,
                at: Named {
                    address: at("node1:1"),
                    by: "a test".to_owned(),
                },
            },
            store: Arc::clone(&store) as Arc<dyn KeyValueStore>,
            server: None,
            pulse: None,
            here: (0, 1),
            hosts: Vec::new(),
            limit: LONG,
        };
        joined.of_all(GPUS, "").unwrap();
        joined.wait_for(READY, 1..4, Instant::now() + LONG).unwrap();
        let waits = store.0.lock().unwrap();
        let (to_come, to_open) = waits.split_at(4);
        assert_eq!(to_open.len(), 3);
        for waits in [to_come, to_open] {
            assert!(waits.iter().all(|wait| *wait <= LONG));
            assert!(waits.windows(2).all(|pair| pair[1] < pair[0]), "{waits:?}");
        }
    }
}
