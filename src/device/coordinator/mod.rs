//! Joins the processes of a run whose plugin needs somebody to ask: a key-value store over TCP, kept by process 0.
//!
//! ```text
//!  --coordinator ────────────┐
//!  MASTER_ADDR, MASTER_PORT ─┼─► address ─┬─ process 0: server ─► table ─┐
//!  Slurm's list of nodes ────┘            │             ▲ messages       ├─► the store of the plugin
//!                                         └─ others: client ─────────────┘
//! ```
//!
//! It carries what the plugin must know before its devices can talk to each other, and nothing of a step. Then it watches
//! the processes until they end. Those of a TPU slice, which find each other, meet for that alone.

pub mod address;
mod beats;
mod client;
mod error;
mod joined;
mod meeting;
pub mod message;
mod overheard;
mod server;
mod table;
mod watch;

#[cfg(test)]
mod client_and_server;

use std::time::Duration;

use crate::device::plugin_kind::PluginKind;
use crate::device::processes::{Launcher, Processes};
use crate::device::{heartbeat, seconds};

use self::address::{Address, Named};

pub use self::error::CoordinatorError;
pub use self::joined::{Joined, join};
pub use self::meeting::Place;
pub use self::watch::{is_watching, leave};

/// The variable for the seconds that processes wait for each other.
pub const VARIABLE: &str = "RESNET_XLA_MEET_SECONDS";

/// Without [`VARIABLE`]: nodes of a cluster may take minutes to start a process.
pub const UNTIL_ALL_START: Duration = Duration::from_secs(300);

/// Likewise, where all have started and only the network may keep them apart.
pub const UNTIL_ALL_ANSWER: Duration = Duration::from_secs(20);

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

    /// [`Self::meeting`], where process 0 listens from now on.
    ///
    /// # Errors
    /// Those of [`Self::meeting`]; process 0 cannot listen there.
    pub fn place(self) -> Result<Place, CoordinatorError> {
        let at = self.meeting()?;
        match self.processes.is_first() {
            true => Place::to_listen_at(at),
            false => Ok(Place::to_call(at)),
        }
    }
}

/// How long processes wait for each other, by default `usual`: until all have come, and then once more until all have opened
/// their devices, which may take a machine with many of them longer than was left.
///
/// # Errors
/// [`VARIABLE`] is no number of seconds.
pub fn patience(usual: Duration) -> Result<Duration, CoordinatorError> {
    Ok(seconds::limit(VARIABLE, 1, usual)?)
}

/// Whether no process shall count as hanging.
///
/// # Errors
/// `RESNET_XLA_HANG_SECONDS` is no number of seconds.
pub fn is_patient_for_ever() -> Result<bool, CoordinatorError> {
    Ok(heartbeat::limit()? == heartbeat::NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn process(index: usize, count: usize) -> Processes {
        Processes {
            index,
            count,
            launcher: Launcher::None,
            source: "a test".to_owned(),
        }
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
}
