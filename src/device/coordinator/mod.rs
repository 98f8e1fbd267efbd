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
mod server;
mod table;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use pjrt::{KeyValueStore, StoreError, StoreErrorKind};

use crate::device::plugin_kind::PluginKind;
use crate::device::processes::{Launcher, Processes};
use crate::system::env_info;
use crate::system::watch::{machine, own_place};

use self::address::{Address, AddressError, Named};
use self::client::Client;
use self::message::Hello;
use self::server::Server;
use self::watch::Part;

pub use self::watch::leave;

/// How long processes wait for each other: nodes of a cluster may take minutes to start one.
pub const PATIENCE: Duration = Duration::from_secs(300);

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
         same address, and see what that one said"
    )]
    Missing {
        missing: usize,
        count: usize,
        address: Address,
        by: String,
        seconds: u64,
    },
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

/// Brings the processes of `group` together, and waits for `patience` until all are there.
pub fn join(group: Group, patience: Duration) -> Result<Joined, CoordinatorError> {
    let meeting = Meeting {
        patience,
        processes: group.processes,
        at: group.meeting()?,
    };
    let own = own_hello(group.processes);
    let place = own.place.clone();
    let (store, server) = meeting.store(own)?;
    let mut joined = Joined {
        meeting,
        store,
        server,
        here: (0, 1),
    };
    let places = joined.places(&place);
    let places = places.inspect_err(|error| joined.dismiss(error))?;
    joined.here = on_one_machine(&places, group.processes.index);
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
            let client = Client::connect(address, own, self.patience);
            let client = client.map_err(|error| self.fault(error, 0))?;
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

    /// `error` as that of a process that waits for `other`.
    fn fault(&self, error: StoreError, other: usize) -> CoordinatorError {
        let Named { address, by } = self.at.clone();
        let seconds = self.patience.as_secs();
        match error.kind {
            StoreErrorKind::TimedOut if other == 0 => CoordinatorError::Silent {
                process: self.processes.to_string(),
                address,
                by,
                seconds,
                reason: error.message,
            },
            StoreErrorKind::TimedOut => CoordinatorError::Missing {
                missing: other,
                count: self.processes.count,
                address,
                by,
                seconds,
            },
            StoreErrorKind::Lost => CoordinatorError::Lost(error.message),
            _ => CoordinatorError::Refused(error.message),
        }
    }
}

/// What a process has once all have met.
pub struct Joined<'a> {
    meeting: Meeting<'a>,
    pub store: Arc<dyn KeyValueStore>,
    /// In process 0.
    server: Option<Server>,
    /// The number of this process among those on its machine, and how many these are.
    pub here: (usize, usize),
}

/// Beginnings of the program's own keys, which no plugin uses.
const PLACE: &str = "resnet-xla/place";
const READY: &str = "resnet-xla/ready";
const LEFT: &str = "resnet-xla/left";

impl Joined<'_> {
    /// From now on this process ends when another one does without having agreed to: see [`leave`].
    pub fn watch(self) {
        watch::start(Part {
            index: self.meeting.processes.index,
            store: self.store,
            server: self.server,
        });
    }

    /// Waits until all processes have come here. If one has ended, all others hear of it.
    pub fn meet(&self) -> Result<(), CoordinatorError> {
        let met = match self.meeting.processes.index {
            0 => self.wait_for_all(),
            index => self.wait_for_the_first(index),
        };
        met.inspect_err(|error| self.dismiss(error))
    }

    fn wait_for_all(&self) -> Result<(), CoordinatorError> {
        let others = 1..self.meeting.processes.count;
        for other in others.clone() {
            self.get(READY, other)?;
        }
        self.put(READY, 0, "")?;
        for other in others {
            self.get(LEFT, other)?;
        }
        Ok(())
    }

    fn wait_for_the_first(&self, index: usize) -> Result<(), CoordinatorError> {
        self.put(READY, index, "")?;
        self.get(READY, 0)?;
        // Once process 0 has this, it may end before it answers.
        let _ = self.put(LEFT, index, "");
        Ok(())
    }

    /// Where each process is, once it has told the others; this one is at `own`.
    fn places(&self, own: &str) -> Result<Vec<String>, CoordinatorError> {
        let Processes { index, count, .. } = *self.meeting.processes;
        self.put(PLACE, index, own)?;
        let place = |process| {
            let place = self.get(PLACE, process)?;
            Ok(String::from_utf8_lossy(&place).into_owned())
        };
        (0..count).map(place).collect()
    }

    fn put(&self, what: &str, process: usize, value: &str) -> Result<(), CoordinatorError> {
        let key = format!("{what}/{process}");
        let put = self.store.put(key.as_bytes(), value.as_bytes());
        put.map_err(|error| self.meeting.fault(error, process))
    }

    fn get(&self, what: &str, process: usize) -> Result<Vec<u8>, CoordinatorError> {
        let key = format!("{what}/{process}");
        let value = self.store.get(key.as_bytes(), self.meeting.patience);
        value.map_err(|error| self.meeting.fault(error, process))
    }

    fn dismiss(&self, reason: &CoordinatorError) {
        if let Some(server) = &self.server {
            server.dismiss(&reason.to_string());
        }
    }
}

/// The number of process `own` among those that are on its machine by their `places`, and how many these are.
fn on_one_machine(places: &[String], own: usize) -> (usize, usize) {
    let is_here = |place: &&String| machine(place) == machine(&places[own]);
    let before = places[..own].iter().filter(is_here).count();
    let all = places.iter().filter(is_here).count();
    (before, all)
}

#[cfg(test)]
mod tests {
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
        let joined = join(group, Duration::from_millis(300));
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
    fn processes_of_one_machine_are_numbered_there() {
        let places = ["a 10", "b 10", "a 11", "a 9"].map(str::to_owned);
        assert_eq!(on_one_machine(&places, 0), (0, 3));
        assert_eq!(on_one_machine(&places, 1), (0, 1));
        assert_eq!(on_one_machine(&places, 3), (2, 3));
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

    /// Process 0's values, the address at which it answers, and process 1, which asks there.
    fn two() -> (Arc<table::Table>, Address, Client) {
        let listener = at("127.0.0.1:0").listen().unwrap();
        let address = at(&listener.local_addr().unwrap().to_string());
        let server = Server::start(listener, hello(0)).unwrap();
        let client = Client::connect(&address, hello(1), LONG).unwrap();
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
        let refused = Client::connect(&address, twin, LONG).err().unwrap();
        assert_eq!(refused.kind, StoreErrorKind::Refused);
        assert!(table.put(b"other", b"value").is_ok());
        assert_eq!(client.get(b"other", LONG).unwrap(), b"value");
    }
}
