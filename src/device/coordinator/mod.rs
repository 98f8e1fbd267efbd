//! Joins the processes of a run whose plugin needs somebody to ask: a key-value store over TCP, kept by process 0.
//!
//! ```text
//!  --coordinator ────────────┐
//!  MASTER_ADDR, MASTER_PORT ─┼─► address ─┬─ process 0: server ─► table ─┐
//!  Slurm's list of nodes ────┘            │             ▲ messages       ├─► the store of the plugin
//!                                         └─ others: client ─────────────┘
//! ```
//!
//! It carries what the plugin must know before its devices can talk to each other, and nothing of a step.

pub mod address;
mod client;
pub mod message;
mod overheard;
mod server;
mod table;
mod watch;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pjrt::{KeyValueStore, StoreError, StoreErrorKind};

use crate::device::plugin_kind::PluginKind;
use crate::device::processes::{Launcher, Processes};
use crate::device::seconds::{self, SecondsError};
use crate::system::env_info;
use crate::system::watch::own_place;

use self::address::{Address, AddressError, Named};
use self::client::Client;
use self::message::Hello;
use self::overheard::Overheard;
use self::server::Server;
use self::watch::Part;

pub use self::watch::leave;

/// The variable for the seconds that processes wait for each other.
pub const VARIABLE: &str = "RESNET_XLA_MEET_SECONDS";

/// Without [`VARIABLE`]: nodes of a cluster may take minutes to start a process.
const PATIENCE: Duration = Duration::from_secs(300);

/// The processes of a run, and where they meet if a setting says so.
#[derive(Clone, Copy)]
pub struct Group<'a> {
    pub processes: &'a Processes,
    /// The value of `--coordinator`.
    pub coordinator: Option<&'a Address>,
}

impl<'a> Group<'a> {
    /// `processes` that no setting brings together.
    pub fn of(processes: &'a Processes) -> Self {
        Self {
            processes,
            coordinator: None,
        }
    }

    /// Whether a plugin of `kind` needs somebody to ask about the other processes. Those of a TPU slice find each other.
    pub fn is_joined_for(self, kind: &PluginKind) -> bool {
        let Processes {
            count, launcher, ..
        } = *self.processes;
        *kind == PluginKind::Gpu && count > 1 && launcher != Launcher::TpuVm
    }

    /// Where the processes meet.
    ///
    /// # Errors
    /// Nobody says it, or not properly.
    pub fn meeting(self) -> Result<Named, CoordinatorError> {
        let named = address::here(self.coordinator, self.processes);
        let named = named.map_err(CoordinatorError::Variables)?;
        named.ok_or_else(|| CoordinatorError::Unnamed {
            count: self.processes.count,
            said_by: self.processes.source.clone(),
        })
    }
}

/// What keeps processes from meeting.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    #[error(
        "there are {count} processes ({said_by}), and on GPUs they meet at an address of process 0, which nobody has named. \
         Give all of them the same --coordinator HOST:PORT, or MASTER_ADDR and MASTER_PORT in the environment: the machine \
         of process 0, and a port that is free there"
    )]
    Unnamed { count: usize, said_by: String },
    #[error(transparent)]
    Seconds(#[from] SecondsError),
    #[error("{0}. Correct them, or give all processes --coordinator HOST:PORT")]
    Variables(AddressError),
    #[error(
        "process 0 cannot listen at {address} (by {by}): {reason}. HOST must be the machine of process 0, and PORT free \
         there: with torchrun, MASTER_PORT may not be. Give all processes another --coordinator HOST:PORT"
    )]
    Listen {
        address: Address,
        by: String,
        reason: std::io::Error,
    },
    #[error(
        "{process} found no process 0 at {address} (by {by}) within {seconds} s: {reason}. Start process 0 there, with the \
         same address, and let no firewall be in between"
    )]
    Silent {
        process: String,
        address: Address,
        by: String,
        seconds: u64,
        reason: String,
    },
    #[error(
        "process {missing} of {count} did not come to {address} (by {by}) within {seconds} s; start all processes, with the \
         same address, and see what that one said. {VARIABLE} sets the time"
    )]
    Missing {
        missing: usize,
        count: usize,
        address: Address,
        by: String,
        seconds: u64,
    },
    #[error(
        "process {late} of {count} has not opened its devices within {seconds} s; see what it said last. {VARIABLE} sets \
         the time"
    )]
    Late {
        late: usize,
        count: usize,
        seconds: u64,
    },
    #[error("{process} cannot open its devices, so all end: {reason}")]
    Failed { process: String, reason: String },
    #[error("the processes do not fit together: {0}")]
    Refused(String),
    #[error("{0}")]
    Lost(String),
}

impl CoordinatorError {
    /// Whether other settings are the remedy.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Unnamed { .. } | Self::Variables(_) | Self::Refused(_)
        )
    }
}

/// How long processes wait for each other: until all have come, and then once more until all have opened their devices,
/// which may take a machine with many of them longer than was left.
///
/// # Errors
/// [`VARIABLE`] is no number of seconds.
pub fn patience() -> Result<Duration, CoordinatorError> {
    Ok(seconds::limit(VARIABLE, PATIENCE)?)
}

/// Brings the processes of `group` together, and waits for `patience` until all are there. Those that say the same as
/// `gpus` have the same GPUs to divide.
pub fn join<'a>(
    group: Group<'a>,
    gpus: &str,
    patience: Duration,
) -> Result<Joined<'a>, CoordinatorError> {
    let meeting = Meeting {
        patience,
        until: Instant::now() + patience,
        processes: group.processes,
        at: group.meeting()?,
    };
    let (store, server) = meeting.store(own_hello(group.processes))?;
    let mut joined = Joined {
        meeting,
        store,
        server,
        here: (0, 1),
    };
    let all = joined.gpus_of_all(gpus);
    let all = all.inspect_err(|error| joined.tell(error))?;
    joined.here = among_equals(&all, group.processes.index);
    Ok(joined)
}

fn own_hello(processes: &Processes) -> Hello {
    Hello {
        program: format!(
            "resnet-xla {} ({})",
            env!("CARGO_PKG_VERSION"),
            env_info::COMMIT
        ),
        processes: processes.count as u32,
        process: processes.index as u32,
        place: own_place(),
    }
}

/// Who meets where.
struct Meeting<'a> {
    patience: Duration,
    /// When all must have come.
    until: Instant,
    processes: &'a Processes,
    at: Named,
}

impl Meeting<'_> {
    /// The store, in process 0 with what answers the others for it, in another as a way to it.
    fn store(
        &self,
        own: Hello,
    ) -> Result<(Arc<dyn KeyValueStore>, Option<Server>), CoordinatorError> {
        let Named { address, by } = &self.at;
        if !self.processes.is_first() {
            let client = Client::connect(address, own, self.until);
            let client = client.map_err(|error| fault(error, |why| self.missing(0, why)))?;
            return Ok((Arc::new(client), None));
        }
        let listened = address.listen().and_then(|listener| {
            let at = listener.local_addr()?;
            Ok((Server::start(listener, own)?, at))
        });
        let (server, at) = listened.map_err(|reason| CoordinatorError::Listen {
            address: address.clone(),
            by: by.clone(),
            reason,
        })?;
        log::info!("{} waits for the others at {at}", self.processes);
        Ok((server.table(), Some(server)))
    }

    /// What is wrong if process `other` has not come in time; process 0 cannot be reached, and that is `why`.
    fn missing(&self, other: usize, why: String) -> CoordinatorError {
        let Named { address, by } = self.at.clone();
        let seconds = self.patience.as_secs();
        match other {
            0 => CoordinatorError::Silent {
                process: self.processes.to_string(),
                address,
                by,
                seconds,
                reason: why,
            },
            missing => CoordinatorError::Missing {
                missing,
                count: self.processes.count,
                address,
                by,
                seconds,
            },
        }
    }
}

/// `error` of the store as one of the meeting; where the time was over, `late` says so, from what the store says.
fn fault(error: StoreError, late: impl FnOnce(String) -> CoordinatorError) -> CoordinatorError {
    match error.kind {
        StoreErrorKind::TimedOut => late(error.message),
        StoreErrorKind::Lost => CoordinatorError::Lost(error.message),
        _ => CoordinatorError::Refused(error.message),
    }
}

/// What a process has once all have met.
pub struct Joined<'a> {
    meeting: Meeting<'a>,
    store: Arc<dyn KeyValueStore>,
    /// In process 0.
    server: Option<Server>,
    /// The number of this process among those that have the same GPUs, and how many these are.
    pub here: (usize, usize),
}

/// Beginnings of the program's own keys, which no plugin uses.
const GPUS: &str = "resnet-xla/gpus";
const READY: &str = "resnet-xla/ready";
const LEFT: &str = "resnet-xla/left";

impl Joined<'_> {
    /// From now on this process ends when another one does without having agreed to: see [`leave`].
    pub fn watch(self) {
        let Processes { index, count, .. } = *self.meeting.processes;
        watch::start(Part {
            index,
            count,
            store: self.store,
            server: self.server,
        });
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

    /// What each process says of its GPUs, once it has told the others; this one says `own`.
    fn gpus_of_all(&self, own: &str) -> Result<Vec<String>, CoordinatorError> {
        let Processes { index, count, .. } = *self.meeting.processes;
        self.put(GPUS, index, own)?;
        let of = |process| {
            let said = self.get(GPUS, process, self.meeting.until);
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

    use self::message::Request;
    use super::*;

    fn process(index: usize, count: usize) -> Processes {
        Processes {
            index,
            count,
            launcher: Launcher::None,
            source: "a test".to_owned(),
        }
    }

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
        let joined = join(group, "", Duration::from_millis(300));
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
    fn gpus_of_several_processes_need_an_address_and_nothing_else_does() {
        let two = process(1, 2);
        let group = Group::of(&two);
        assert!(group.is_joined_for(&PluginKind::Gpu));
        assert!(!group.is_joined_for(&PluginKind::Cpu));
        assert!(!Group::of(&process(0, 1)).is_joined_for(&PluginKind::Gpu));
        let slice = Processes {
            launcher: Launcher::TpuVm,
            ..two
        };
        assert!(!Group::of(&slice).is_joined_for(&PluginKind::Gpu));
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
            here: (0, 1),
        };
        joined.gpus_of_all("").unwrap();
        joined.wait_for(READY, 1..4, Instant::now() + LONG).unwrap();
        let waits = store.0.lock().unwrap();
        let (to_come, to_open) = waits.split_at(4);
        assert_eq!(to_open.len(), 3);
        for waits in [to_come, to_open] {
            assert!(waits.iter().all(|wait| *wait <= LONG));
            assert!(waits.windows(2).all(|pair| pair[1] < pair[0]), "{waits:?}");
        }
    }

    fn hello(process: u32) -> Hello {
        Hello {
            program: "resnet-xla".to_owned(),
            processes: 2,
            process,
            place: format!("a {process}"),
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    fn soon() -> Instant {
        Instant::now() + LONG
    }

    /// Process 0's values, the address at which it answers, and process 1, which asks there.
    fn two() -> (Arc<table::Table>, Address, Client) {
        let listener = at("127.0.0.1:0").listen().unwrap();
        let address = at(&listener.local_addr().unwrap().to_string());
        let server = Server::start(listener, hello(0)).unwrap();
        let client = Client::connect(&address, hello(1), soon()).unwrap();
        (server.table(), address, client)
    }

    #[test]
    fn a_call_that_waits_holds_up_no_other() {
        let (table, _, client) = two();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| client.get(b"late", LONG));
            for number in 0..20u8 {
                client.put(&[number], b"value").unwrap();
                assert_eq!(table.try_get(&[number]).unwrap(), b"value");
            }
            assert!(!waiting.is_finished());
            table.put(b"late", b"now").unwrap();
            assert_eq!(waiting.join().unwrap().unwrap(), b"now");
        });
        let large = vec![7; 5 << 20];
        client.put(b"large", &large).unwrap();
        assert!(client.get(b"large", LONG).unwrap() == large);
        let missing = client.try_get(b"missing").unwrap_err();
        assert_eq!(missing.kind, StoreErrorKind::NotFound);
        let late = client.get(b"never", Duration::from_millis(20)).unwrap_err();
        assert_eq!(late.kind, StoreErrorKind::TimedOut);
        assert!(late.message.contains("`never`"), "{late}");
    }

    #[test]
    fn a_process_that_ends_is_named_to_those_that_wait() {
        let (table, _, client) = two();
        client.put(b"key", b"value").unwrap();
        drop(client);
        let lost = table.get(b"another", LONG).unwrap_err();
        assert_eq!(lost.kind, StoreErrorKind::Lost);
        assert!(
            lost.message.starts_with("process 1 of 2 has ended"),
            "{lost}"
        );
        assert_eq!(table.get(b"key", LONG).unwrap(), b"value");
    }

    #[test]
    fn strangers_are_sent_away_and_disturb_nobody() {
        use std::io::{Read, Write};

        let (table, address, client) = two();
        let put = Request::Put {
            key: b"key".to_vec(),
            value: b"of a stranger".to_vec(),
        };
        let mut unannounced = Vec::new();
        message::send(&mut unannounced, &put.encode()).unwrap();
        let too_long = (message::MOST_HELLO as u32 + 1).to_le_bytes();
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0xff; 64][..],
            &too_long[..],
            &unannounced[..],
        ] {
            let mut stream = std::net::TcpStream::connect(address.to_string()).unwrap();
            stream.write_all(bytes).unwrap();
            let mut answer = Vec::new();
            // It may be cut off with what it sent unread.
            let _ = stream.read_to_end(&mut answer);
            assert!(answer.is_empty(), "{answer:?}");
        }
        assert!(table.try_get(b"key").is_err());
        client.put(b"key", b"value").unwrap();
        assert_eq!(client.get(b"key", LONG).unwrap(), b"value");
        // A third one with a number that is taken is refused, and the run goes on.
        let twin = Hello {
            place: "b 1".to_owned(),
            ..hello(1)
        };
        let refused = Client::connect(&address, twin, soon()).err().unwrap();
        assert_eq!(refused.kind, StoreErrorKind::Refused);
        assert!(table.put(b"other", b"value").is_ok());
        assert_eq!(client.get(b"other", LONG).unwrap(), b"value");
    }
}
