//! What the processes of a run agree on before its first step, and what the first one tells the others. Alone, a process
//! agrees with itself.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::cli::config::{Config, ConfigError};
use crate::data::RunImages;
use crate::model::choose;
use crate::model::peers::Peers;
use crate::model::state::HostState;
use crate::run::checkpoint::Position;
use crate::system::{env_info, proc};

/// Where the run begins, as the first process finds it in the run's folder.
#[derive(Serialize, Deserialize)]
pub struct Begin {
    pub position: Position,
    /// Whether nothing is left to do.
    pub done: bool,
}

/// What the first process tells of the settings of a run to be resumed.
#[derive(Serialize, Deserialize)]
struct Told {
    /// The machine that it is on.
    host: String,
    /// As a text, or why it has none.
    settings: Result<String, String>,
}

/// The settings of the run: those that each process has `found`, which must be the same in all, or where a run is resumed,
/// those that the first process has from the run's folder. What was `named` for it must be the same in all then too.
///
/// # Errors
/// [`PeersDiffer`](crate::model::peers::PeersDiffer); why the first process has found none, in all processes.
pub fn agree_on_settings(
    peers: &Peers,
    named: &Config,
    found: Result<Config, ConfigError>,
    resume: bool,
) -> Result<Config> {
    if !peers.are_there() {
        return Ok(found?);
    }
    // Programs of two versions may have another number of settings, so these come first.
    peers.agree(&[
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("build", env_info::build().to_owned()),
        ("--resume", resume.to_string()),
    ])?;
    let config = match resume {
        true => {
            peers.agree(&named.shared()?)?;
            of_first(peers, found)?
        }
        false => found?,
    };
    peers.agree(&config.shared()?)?;
    Ok(config)
}

/// The settings that the first process has `found`, or in all processes why it has not. What the others have found counts
/// for nothing.
fn of_first(peers: &Peers, found: Result<Config, ConfigError>) -> Result<Config> {
    let settings = match &found {
        Ok(config) => Ok(config.to_toml()?),
        Err(error) => Err(error.to_string()),
    };
    let host = proc::hostname().unwrap_or_default();
    let told = serde_json::to_string(&Told { host, settings })?;
    let told: Told = serde_json::from_str(&peers.share_text(told)?)?;
    if peers.is_first() {
        return Ok(found?);
    }
    match told.settings {
        Ok(settings) => Ok(Config::of_peer(&settings)?),
        Err(reason) => {
            let host = told.host;
            Err(ConfigError::OfFirst { host, reason }.into())
        }
    }
}

/// Loads the data in the first process, which may download them into a folder that all see, and then in the others.
pub fn one_after_another<T>(peers: &Peers, load: impl FnOnce() -> Result<T>) -> Result<T> {
    if !peers.is_first() {
        peers.meet()?;
        return load();
    }
    let images = load()?;
    peers.meet()?;
    Ok(images)
}

/// Checks that all processes found the same images.
pub fn agree_on_data(peers: &Peers, images: &RunImages) -> Result<()> {
    let counts = (images.training.len(), images.validation.split.len());
    peers.agree(&[
        ("classes", images.spec.class_names.join(", ")),
        ("image size", images.spec.side.to_string()),
        ("number of images", format!("{} and {}", counts.0, counts.1)),
        ("images", images.sum.clone().unwrap_or_default()),
    ])
}

/// Gives all processes the first one's `begin` and `state`; the others have none.
pub fn begin(
    shared: &Shared,
    begin: Begin,
    state: Option<HostState>,
) -> Result<(Begin, HostState)> {
    let begin = match shared.peers.are_there() {
        true => serde_json::from_str(&shared.peers.share_text(serde_json::to_string(&begin)?)?)?,
        false => begin,
    };
    let state = shared.peers.share_state(shared.program.layout(), state)?;
    Ok((begin, state))
}

/// Checks that all processes are about to do the same from the same step on, and compiles the training step; returns how
/// long that took.
pub fn compile(shared: &Shared, position: &Position) -> Result<Duration> {
    if shared.peers.are_there() {
        let instructions = choose::instructions(shared.device.kind);
        shared.peers.agree(&[
            ("resume step", position.step.to_string()),
            ("what computes", instructions),
            ("program", shared.program.train_digest()?),
        ])?;
    }
    shared.program.compile_train()
}
