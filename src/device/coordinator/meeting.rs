//! The address at which the processes of a run meet, and the store that all of them reach there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pjrt::KeyValueStore;

use super::address::Named;
use super::beats::Pulse;
use super::client::Client;
use super::error::{CoordinatorError, fault};
use super::message::Hello;
use super::server::Server;
use crate::device::processes::Processes;
use crate::system::env_info;
use crate::system::watch::own_place;

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
    /// The store, in another process as a way to it.
    pub fn store(&self, own: Hello) -> Result<Reached, CoordinatorError> {
        let Named { address, by } = &self.at;
        if !self.processes.is_first() {
            let client = Client::connect(address, own, self.until);
            let client = client.map_err(|error| fault(error, |why| self.missing(0, why)))?;
            let pulse = client.pulse();
            let pulse = pulse.map_err(|error| fault(error, CoordinatorError::Lost))?;
            return Ok(Reached {
                store: Arc::new(client),
                server: None,
                pulse: Some(pulse),
            });
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
            env_info::COMMIT
        ),
        processes: processes.count as u32,
        process: processes.index as u32,
        place: own_place(),
    }
}
