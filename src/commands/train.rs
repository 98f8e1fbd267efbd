//! `train`: a run from its settings to its result.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::checkpoint::{self, CheckpointInfo};
use crate::cli::TrainArgs;
use crate::config::Config;
use crate::data::{self, BatchSource, Dataset, Normalization, Split, TrainingOptions};
use crate::device::Device;
use crate::env_info::EnvInfo;
use crate::files;
use crate::initialise::initial_state;
use crate::logger::Logger;
use crate::model::{self, ModelSettings};
use crate::program::Program;
use crate::progress::Progress;
use crate::run_dir::{RunDir, RunDirMode};
use crate::summary::grouped;
use crate::train::{Outcome, Trainer};

/// The content of `result.json`.
#[derive(Serialize)]
struct RunResult {
    #[serde(flatten)]
    outcome: Outcome,
    device: String,
    replicas: usize,
    /// Seconds to trace and compile the training step.
    compile_s: f64,
}

pub fn run(args: &TrainArgs, logger: &Logger) -> Result<()> {
    let config = Config::resolve(args)?;
    let device = Device::open(config.device, config.plugin.as_deref())?;
    let mode = if args.overwrite {
        RunDirMode::Overwrite
    } else {
        RunDirMode::Fresh
    };
    let run_dir = RunDir::create(&config.out_dir, mode)?;
    logger.also_to(&run_dir.train_log())?;
    let dataset = data::load(config.dataset, &config.data_dir)?;
    describe_run(&config, &device, &run_dir)?;

    let program = Program::new(&device, model::build(&settings(&config), device.kind)?);
    let mut progress = Progress::new(config.progress, logger.terminal());
    progress.start(&start_block(&config, &device, &program, &dataset));
    let layout = program.layout();
    let state = match &config.init_weights {
        Some(path) => checkpoint::load_into(path, layout, initial_state(layout, config.seed))?,
        None => initial_state(layout, config.seed),
    };
    let compiled = program.compile_train()?;

    let normalization = Normalization::of(&dataset.train);
    let mut trainer = Trainer {
        config: &config,
        run_dir: &run_dir,
        program: &program,
        progress,
        training: Arc::new(training_source(&config, dataset.train, normalization)),
        validation: Arc::new(BatchSource::evaluation(
            Arc::new(dataset.test),
            normalization,
            config.batch_size,
        )),
        info: CheckpointInfo {
            depth: config.depth,
            l2: config.l2,
            step: 0,
            epoch: 0,
            dataset: config.dataset,
            normalization,
        },
    };
    let outcome = trainer.run(program.upload_state(&state)?)?;
    let result = RunResult {
        outcome,
        device: device.description(),
        replicas: 1,
        compile_s: compiled.as_secs_f64(),
    };
    files::write_json(&run_dir.result(), &result)?;
    log::info!("the run is in {}", run_dir.root().display());
    Ok(())
}

/// Writes what the run is and where it runs: `config.toml` and `env.json`.
fn describe_run(config: &Config, device: &Device, run_dir: &RunDir) -> Result<()> {
    let text = toml::to_string(config).context("writing the config as TOML")?;
    files::write_text(&run_dir.config(), &text)?;
    files::write_json(&run_dir.env(), &EnvInfo::collect(&device.description()))?;
    Ok(())
}

fn settings(config: &Config) -> ModelSettings {
    ModelSettings {
        depth: config.depth,
        batch_size: config.batch_size,
        precision: config.precision,
        batch_norm: config.bn,
        l2: config.l2,
        momentum: config.momentum,
    }
}

fn training_source(config: &Config, split: Split, normalization: Normalization) -> BatchSource {
    let options = TrainingOptions {
        augment: config.augment,
        seed: config.seed,
        batch_size: config.batch_size,
        shuffle: !config.no_shuffle,
        steps_per_epoch: config.steps_per_epoch,
    };
    BatchSource::training(Arc::new(split), normalization, options)
}

/// What is about to run, a line each.
fn start_block(
    config: &Config,
    device: &Device,
    program: &Program,
    dataset: &Dataset,
) -> Vec<String> {
    let layout = program.layout();
    vec![
        format!(
            "device      {}, {}",
            device.description(),
            program.model().precision
        ),
        format!(
            "network     ResNet-{} v2, {} parameters ({} trainable)",
            config.depth,
            grouped(layout.total_parameters()),
            grouped(layout.trainable_parameters())
        ),
        format!(
            "data        {}: {} training and {} test images",
            dataset.name,
            grouped(dataset.train.len()),
            grouped(dataset.test.len())
        ),
        format!(
            "training    {} epochs, batch {}, learning rate {}",
            config.epochs,
            config.batch_size,
            rates(config)
        ),
    ]
}

/// The learning rates that the run comes to, with the epochs (from 1) at which they begin.
fn rates(config: &Config) -> String {
    let drops = config.lr_drops.iter();
    let reached = drops.filter(|&(epoch, _)| epoch < config.epochs);
    reached.fold(config.lr.to_string(), |text, (epoch, rate)| {
        format!("{text}, {rate} from epoch {}", epoch + 1)
    })
}
