//! What a run says of itself at its start and at its end.

use xla_graphs::ops::Lowering;
use xla_graphs::table::Array;
use xla_graphs::{Layout, ResNet};

use crate::cli::config::Config;
use crate::data::{BatchSource, Validation};
use crate::device::Device;
use crate::device::replicas::Counted;
use crate::model::choose::{self, BatchNormMode};
use crate::model::program::Program;
use crate::model::summary::grouped;
use crate::run::run_dir::RunDir;
use crate::run::schedule::ScheduleChoice;
use crate::run::trainer::StepCollectives;

/// The data set of a run and how many images it has.
pub fn about_data(name: &str, training: &BatchSource, validation: &Validation) -> String {
    format!(
        "{name}: {} training and {} {} images",
        grouped(training.images()),
        grouped(validation.split.len()),
        validation.name()
    )
}

/// What the other processes cost.
pub fn about_collectives(step: &StepCollectives) -> String {
    format!(
        "of each step of the last epoch, {:.1} ms ({:.0} %) went into {:.0} collectives with the other processes",
        step.ms,
        100.0 * step.share,
        step.count
    )
}

/// Lines that describe the run about to start.
pub fn start_block(
    config: &Config,
    device: &Device,
    program: &Program,
    data: &str,
    training: &BatchSource,
) -> Vec<String> {
    let layout = program.layout();
    let network = &program.model().network;
    let mut lines = vec![
        format!(
            "device      {}, {}, {}",
            device.description(),
            network.precision,
            Counted(device.replicas)
        ),
        format!(
            "network     {}, {} parameters ({} trainable)",
            config.network(),
            grouped(layout.total_parameters()),
            grouped(layout.trainable_parameters())
        ),
    ];
    lines.extend(without_kernels(network, device));
    lines.extend(frozen(config, network, layout));
    lines.extend(normalised(config));
    lines.push(format!("executable  {}", executable(program)));
    lines.extend([
        format!("data        {data}"),
        format!(
            "training    {} epochs, {}{}",
            config.epochs,
            batch(config, device.replicas),
            limit(config)
        ),
        format!("rate        {}", rates(config, training)),
    ]);
    lines
}

/// Where the executable of the training step comes from.
fn executable(program: &Program) -> String {
    let found = program.train_found();
    found.and_then(|found| found.loaded()).map_or(
        "to be compiled: it was not kept at an earlier start".to_owned(),
        |loaded| format!("loaded {loaded}"),
    )
}

/// Why a CPU computes the network without its kernels, if it does for the network's sake.
fn without_kernels(network: &ResNet, device: &Device) -> Option<String> {
    let has_kernels = choose::lowering(device.kind) == Lowering::Kernels;
    let reason = choose::beyond_kernels(network).filter(|_| has_kernels)?;
    Some(format!("kernels     none, XLA's operations: {reason}"))
}

/// How images are normalised, if it is not by their own mean and deviation.
fn normalised(config: &Config) -> Option<String> {
    config.model.normalization()?;
    let how = "by ImageNet's mean and deviation, as the published weights of version 1 expect";
    Some(format!("normalised  {how}"))
}

/// What training leaves as it is, if it leaves anything.
fn frozen(config: &Config, network: &ResNet, layout: &Layout) -> Option<String> {
    let until = config.freeze_until.as_ref()?;
    let weights = network.frozen_tensors().into_iter();
    let weights = weights.filter(|spec| spec.array() == Array::Weights);
    let count: usize = weights.map(|spec| spec.len()).sum();
    Some(format!(
        "frozen      until {until}: {} of {} weights, and the statistics of their batch norms",
        grouped(count),
        grouped(layout.trainable_parameters())
    ))
}

/// Says that `--max-steps` may end the run early, if it is set.
fn limit(config: &Config) -> String {
    config.max_steps.map_or(String::new(), |steps| {
        format!(", at most {} steps (--max-steps)", grouped(steps as usize))
    })
}

/// The batch size, and how the replicas share the batch.
fn batch(config: &Config, replicas: usize) -> String {
    let whole = format!("batch {}", config.batch_size);
    if replicas == 1 {
        return whole;
    }
    let statistics = match config.bn {
        BatchNormMode::Sync => "of all",
        BatchNormMode::Local => "of its own",
    };
    let share = config.batch_size / replicas;
    format!("{whole}: {share} images a replica, batch statistics {statistics}")
}

/// The learning rates of the run, from the first step to the last.
fn rates(config: &Config, training: &BatchSource) -> String {
    let fall = |shape: &str| {
        let all = grouped(config.all_steps(training.steps_per_epoch()) as usize);
        format!("{}, {shape} to 0 at step {all}", config.lr)
    };
    let schedule = match config.lr_schedule {
        ScheduleChoice::Step => drops(config),
        ScheduleChoice::Cosine => fall("along half a cosine"),
        ScheduleChoice::OneCycle => fall("in a straight line"),
        ScheduleChoice::Constant => config.lr.to_string(),
    };
    match config.warmup {
        0 => schedule,
        steps => format!("{schedule}; {} steps of warm-up", grouped(steps as usize)),
    }
}

/// The learning rates that the run comes to, with the epochs (from 1) at which they begin.
fn drops(config: &Config) -> String {
    let drops = config.lr_drops.iter();
    let reached = drops.filter(|&(epoch, _)| epoch < config.epochs);
    reached.fold(config.lr.to_string(), |text, (epoch, rate)| {
        format!("{text}, {rate} from epoch {}", epoch + 1)
    })
}

/// Describes how a run ended at `step`: finished, or stopped by `--max-steps`.
pub fn where_it_ended(
    config: &Config,
    run_dir: &RunDir,
    training: &BatchSource,
    step: u64,
) -> String {
    let (root, epochs) = (run_dir.root().display(), config.epochs);
    let all = config.all_steps(training.steps_per_epoch());
    match config.max_steps {
        Some(limit) if step < all => format!(
            "the run in {root} stopped at step {step} of {all}, by --max-steps {limit}. --resume --epochs {epochs} \
             continues to the end, --resume --max-steps N to step N"
        ),
        _ => format!(
            "the run in {root} is finished, with {epochs} epochs; --resume --epochs N continues to the end of \
             epoch N"
        ),
    }
}
