//! The address at which the processes of a run meet, and the store that all of them reach there.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pjrt::KeyValueStore;

use super::address::{Address, Named};
use super::beats::Pulse;
use super::client::Client;
use super::error::{CoordinatorError, fault};
use super::message::Hello;
use super::server::Server;
use crate::device::processes::Processes;
use crate::system::env_info;
use crate::system::watch::own_place;

/// Where the processes meet, as one of them has it.
pub struct Place {
    pub(super) at: Named,
    /// In process 0.
    pub(super) listener: Option<TcpListener>,
}

impl Place {
    /// Where process 0 listens from now on.
    ///
    /// # Errors
    /// It cannot.
    pub fn to_listen_at(at: Named) -> Result<Self, CoordinatorError> {
        let listener = at.address.listen();
        let listener = listener.map_err(|reason| unheard(&at, reason))?;
        let listener = Some(listener);
        Ok(Self { at, listener })
    }

    /// Where another process finds process 0.
    pub fn to_call(at: Named) -> Self {
        let listener = None;
        Self { at, listener }
    }

    /// The address, with the port that the system has given where any was good.
    pub fn address(&self) -> Address {
        let listener = self.listener.as_ref();
        let port = listener.and_then(|listener| Some(listener.local_addr().ok()?.port()));
        let address = &self.at.address;
        port.map_or(address.clone(), |port| address.at_port(port))
    }
}

fn unheard(at: &Named, reason: io::Error) -> CoordinatorError {
    let Named { address, by } = at.clone();
    CoordinatorError::Listen {
        address,
        by,
        reason,
    }
}

/// Who meets where.
pub struct Meeting<'a> {
    pub patience: Duration,
    /// When all must have come.
    pub until: Instant,
    pub processes: &'a Processes,
    pub at: Named,
}

/// What a process has once it has reached process 0.
pub struct Reached {
    pub store: Arc<dyn KeyValueStore>,
    /// In process 0, what answers the others.
    pub server: Option<Server>,
    /// In another, a way to process 0 for beats.
    pub pulse: Option<Pulse>,
}

impl Meeting<'_> {
    /// The store, in another process as a way to it; process 0 has a `listener`.
    pub fn store(
        &self,
        own: Hello,
        listener: Option<TcpListener>,
    ) -> Result<Reached, CoordinatorError> {
        let Some(listener) = listener else {
            let client = Client::connect(&self.at.address, own, self.until);
            let client = client.map_err(|error| fault(error, |why| self.missing(0, why)))?;
            let pulse = client.pulse();
            let pulse = pulse.map_err(|error| fault(error, CoordinatorError::Lost))?;
            return Ok(Reached {
                store: Arc::new(client),
                server: None,
                pulse: Some(pulse),
            });
        };
        let at = listener.local_addr();
        let started = at.and_then(|at| Ok((Server::start(listener, own)?, at)));
        let (server, at) = started.map_err(|reason| unheard(&self.at, reason))?;
        log::info!("{} waits for the others at {at}", self.processes);
        Ok(Reached {
            store: server.table(),
            server: Some(server),
            pulse: None,
        })
    }

    /// What is wrong if process `other` has not come in time; process 0 cannot be reached, and that is `why`.
    pub fn missing(&self, other: usize, why: String) -> CoordinatorError {
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

/// How this process announces itself.
pub fn own_hello(processes: &Processes) -> Hello {
    Hello {
        program: format!(
            "resnet-xla {} ({})",
            env!("CARGO_PKG_VERSION"),
            env_info::build()
        ),
        processes: processes.count as u32,
        process: processes.index as u32,
        place: own_place(),
    }
}
