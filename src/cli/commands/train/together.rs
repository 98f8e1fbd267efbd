//! What the processes of a run agree on before its first step, and what the first one tells the others. Alone, a process
//! agrees with itself.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::cli::config::Config;
use crate::data::RunImages;
use crate::model::choose;
use crate::model::peers::Peers;
use crate::model::state::HostState;
use crate::run::checkpoint::Position;
use crate::system::env_info;

/// Where the run begins, as the first process finds it in the run's folder.
#[derive(Serialize, Deserialize)]
pub struct Begin {
    pub position: Position,
    /// Whether nothing is left to do.
    pub done: bool,
}

/// The settings of the run: `config`, which must be the same in all processes, or where a run is resumed, those that
/// the first process has from the run's folder. What was `named` for it must be the same in all then too.
pub fn agree_on_settings(
    peers: &Peers,
    named: &Config,
    config: Config,
    resume: bool,
) -> Result<Config> {
    if !peers.are_there() {
        return Ok(config);
    }
    // Programs of two versions may have another number of settings, so these come first.
    peers.agree(&[
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("build", env_info::COMMIT.to_owned()),
        ("--resume", resume.to_string()),
    ])?;
    let config = match resume {
        true => {
            peers.agree(&named.shared()?)?;
            let shared = Config::of_peer(&peers.share_text(config.to_toml()?)?)?;
            match peers.is_first() {
                true => config,
                false => shared,
            }
        }
        false => config,
    };
    peers.agree(&config.shared()?)?;
    Ok(config)
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
            ("instruction set", instructions.unwrap_or_default()),
            ("program", shared.program.train_digest()?),
        ])?;
    }
    shared.program.compile_train()
}
