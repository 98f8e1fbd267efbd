//! The run in a process other than the first: it takes every step, and keeps and shows nothing.

use std::sync::Arc;

use anyhow::Result;

use super::together::{self, Begin};
use super::{Shared, checkpoint_info, training_source, validation_source};
use crate::data::RunImages;
use crate::run::checkpoint::Position;
use crate::run::history::History;
use crate::run::step_log::StepLog;
use crate::run::stop::Stop;
use crate::run::stopwatch::Stopwatch;
use crate::run::trainer::Trainer;

pub fn follow(shared: &Shared, images: RunImages) -> Result<()> {
    let (config, normalization) = (shared.config, shared.normalization);
    let training = Arc::new(training_source(shared, images.training, normalization));
    config.check_warmup(training.steps_per_epoch())?;
    // What is told here counts for nothing.
    let nothing = Begin {
        position: Position::default(),
        done: false,
    };
    let (Begin { position, done }, state) = together::begin(shared, nothing, None)?;
    if done {
        return Ok(());
    }
    together::compile(shared, &position)?;
    let (spec, device) = (&images.spec, shared.device);
    let trainer = Trainer {
        settings: config.trainer(training.steps_per_epoch()),
        program: shared.program,
        training,
        validation: Arc::new(validation_source(shared, &images.validation, normalization)),
        history: History::in_memory(),
        info: checkpoint_info(config, spec, images.sum, device, normalization, position)?,
        saver: None,
        peers: shared.peers,
        stop: Stop::new(shared.signals.clone(), shared.peers),
        observers: Vec::new(),
        log: StepLog::every(config.log_every),
        watch: Stopwatch::start(),
    };
    trainer.follow(shared.program.upload_state(&state)?)
}
