//! `train`: a run from its settings to its result, in this process alone or shared with others.

mod follow;
mod prepare;
mod resumed;
mod together;
mod watched;
mod words;

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use self::prepare::{Images, Prepared};
use self::together::Begin;
use crate::cli::args::TrainArgs;
use crate::cli::config::{Config, ConfigError, check_split, named_layers};
use crate::cli::exit;
use crate::cli::outputs::{self, Named};
use crate::cli::resume;
use crate::data::{
    self, BatchSource, DatasetSpec, Normalization, RunImages, Split, TrainingOptions, Validation,
};
use crate::device::coordinator::Group;
use crate::device::processes::{Launcher, Processes};
use crate::device::{Device, DeviceChoice};
use crate::model::choose::{self, ModelSettings};
use crate::model::initialise::begin_averages;
use crate::model::peers::Peers;
use crate::model::program::{ExecutableOrigin, Program};
use crate::model::state::HostState;
use crate::model::tracing::{self, NoTracing};
use crate::model::whitening;
use crate::run::checkpoint::{CheckpointInfo, Position, Saver};
use crate::run::observer::Observer;
use crate::run::run_dir::{RunDir, RunDirMode};
use crate::run::step_log::StepLog;
use crate::run::stop::Stop;
use crate::run::stopwatch::Stopwatch;
use crate::run::trainer::{Outcome, Trainer};
use crate::show::live::{Curves, Events, Page, Profile};
use crate::show::progress::Progress;
use crate::show::report::{self, Scored};
use crate::system::env_info::EnvInfo;
use crate::system::files;
use crate::system::logger::TRAIN_LOG;
use crate::system::proc;
use crate::system::process::Process;
use crate::system::signals::Signals;

/// The content of `result.json`.
#[derive(Serialize)]
struct RunResult {
    #[serde(flatten)]
    outcome: Outcome,
    /// Steps of all epochs, of which `--max-steps` may have left some.
    all_steps: u64,
    device: String,
    replicas: usize,
    /// Seconds from the start of the process until the training began; absent if the system does not say when that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_s: Option<f64>,
    /// Likewise, until its first step began: the batch was on the devices, and its executable was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_step_s: Option<f64>,
    /// Likewise, until that call returned. A device that works on its own still runs the step then.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_step_called_s: Option<f64>,
    /// Seconds to trace and compile the training step, or to load it.
    compile_s: f64,
    /// Seconds that it took to compile at an earlier time; absent if it was compiled now.
    #[serde(skip_serializing_if = "Option::is_none")]
    compiled_earlier_s: Option<f64>,
    executables: Vec<ExecutableOrigin>,
}

pub fn run(args: &TrainArgs, process: &Process) -> Result<()> {
    train(args, process).inspect_err(|error| {
        // The terminal may be closed by now.
        log::error!(target: TRAIN_LOG, "{}", exit::message(error));
    })
}

fn train(args: &TrainArgs, process: &Process) -> Result<()> {
    let layers = named_layers(args)?;
    let named = Config::of_new_run(&layers)?;
    let mut processes = Processes::here(named.asked())?;
    if processes.launcher == Launcher::TpuVm && named.device == DeviceChoice::Cpu {
        // The VMs of a slice are joined by its TPUs alone.
        processes = Processes::alone();
    }
    let devices_tell = processes.launcher == Launcher::TpuVm
        || Device::may_join_by_itself(named.device, named.plugin.as_deref());
    if !devices_tell {
        check_coordinator(args, processes.count, &processes.source)?;
    }
    if !processes.is_first() && !devices_tell {
        process.logger.leave_the_rest_to_another();
    }
    let found = match args.resume && !processes.is_first() && !devices_tell {
        // The folder of a run to be resumed, which has its settings, need not be here.
        true => Ok(named.clone()),
        false => Config::settle(layers, named.clone(), args, args.resume),
    };
    let trained = match found {
        // Another process may be the first, and see the folder.
        Err(error) if !(args.resume && devices_tell) => Err(error.into()),
        found => train_as(&processes, &named, found, args, process),
    };
    match processes.is_first() || devices_tell {
        true => trained,
        false => trained.with_context(|| processes.clone()),
    }
}

/// Refuses an address, where the user typed one, at which one of `count` processes would meet nobody.
fn check_coordinator(args: &TrainArgs, count: usize, said_by: &str) -> Result<(), ConfigError> {
    match count == 1 && args.types("coordinator") {
        true => Err(ConfigError::Unread {
            option: "coordinator",
            readers: "several processes (--processes N --process I, where no launcher says it)"
                .to_owned(),
            got: format!("one ({said_by})"),
        }),
        false => Ok(()),
    }
}

/// The run as one of `processes`, with what was `named` for it in this process, and with its settings as this process has
/// `found` them. Where it has not, and another process is the first, that one has them.
fn train_as(
    processes: &Processes,
    named: &Config,
    found: Result<Config, ConfigError>,
    args: &TrainArgs,
    process: &Process,
) -> Result<()> {
    if let Ok(config) = &found {
        check_tracing(config)?;
        if args.overwrite {
            spare_inputs(args, config)?;
        }
    }
    let config = found.as_ref().unwrap_or(named);
    data::progress::choose(config.progress.of_loading());
    let plugin = config.plugin.as_deref();
    let group = Group {
        processes,
        coordinator: config.coordinator.as_ref(),
    };
    let device = Device::open_among(group, config.device, plugin, config.replicas)?
        .with_cache(config.compile_cache.as_deref())
        .with_executables(&args.load_executable)?;
    let peers = Peers::new(&device);
    if peers.is_first() {
        return train_among(&device, &peers, named, found, args, process);
    }
    process.logger.leave_the_rest_to_another();
    let trained = train_among(&device, &peers, named, found, args, process);
    trained.with_context(|| Processes {
        index: device.process(),
        count: device.processes(),
        ..processes.clone()
    })
}

/// The rest of [`train_as`], once the devices have said who this process is.
fn train_among(
    device: &Device,
    peers: &Peers,
    named: &Config,
    found: Result<Config, ConfigError>,
    args: &TrainArgs,
    process: &Process,
) -> Result<()> {
    check_coordinator(args, device.processes(), "its devices")?;
    let config = together::agree_on_settings(peers, named, found, args.resume)?;
    watched::watch(device, peers, config.coordinator.as_ref())?;
    check_tracing(&config)?;
    check_split(config.batch_size, device.replicas)?;
    if peers.is_first() {
        RunDir::check(&config.out_dir, run_dir_mode(args))?;
    }
    let Prepared {
        images,
        program,
        settings,
        first,
    } = prepare::prepare(device, peers, &config, args)?;
    let Images {
        images,
        normalization,
    } = images;
    let shared = Shared {
        config: &config,
        device,
        peers,
        program: &program,
        settings: &settings,
        normalization,
        signals: &process.signals,
    };
    match peers.is_first() {
        true => lead(&shared, images, first, args, process),
        false => follow::follow(&shared, images),
    }
}

/// Refuses settings for which this build would have to trace computations, if it traces none.
fn check_tracing(config: &Config) -> Result<(), NoTracing> {
    match config.program {
        Some(_) => Ok(()),
        None => tracing::check("training without --program"),
    }
}

/// What all processes of a run have.
struct Shared<'a> {
    config: &'a Config,
    device: &'a Device,
    peers: &'a Peers<'a>,
    program: &'a Program<'a>,
    settings: &'a ModelSettings,
    normalization: Normalization,
    signals: &'a Signals,
}

/// The run in the first process, which keeps and shows it; there may be no other. A resumed one has no `first` weights.
fn lead(
    shared: &Shared,
    images: RunImages,
    first: Option<HostState>,
    args: &TrainArgs,
    process: &Process,
) -> Result<()> {
    let Shared {
        config,
        device,
        peers,
        program,
        settings,
        normalization,
        ..
    } = *shared;
    let RunImages {
        name,
        spec,
        training,
        validation,
        sum,
    } = images;
    let first = first.map(|state| {
        let state = whitened(config, program, state, &training, &normalization);
        begin_averages(program.layout(), state)
    });
    let training = Arc::new(training_source(shared, training, normalization));
    config.check_warmup(training.steps_per_epoch())?;
    // Nothing is created or removed before the settings, the first weights, the executables and the data were checked.
    let run_dir = RunDir::create(&config.out_dir, run_dir_mode(args))?;
    process.logger.also_to(&run_dir.train_log())?;
    let (state, position) = match first {
        Some(state) => (state, Position::default()),
        None => resumed::state(
            &run_dir,
            program.layout(),
            (&spec, sum.as_deref()),
            settings,
            device.kind,
        )?,
    };
    let mut progress = Progress::new(config.progress, process.logger.terminal());
    let data = words::about_data(&name, &training, &validation);
    progress.start(&words::start_block(
        config, device, program, &data, &training,
    ));
    position.check(training.steps_per_epoch())?;
    let before = match args.resume {
        true => Some(resume::history(&run_dir, position.epoch)?),
        false => None,
    };
    let done = resumed::is_done(config, &run_dir, &position, before.as_ref(), &training);
    let (begin, state) = together::begin(shared, Begin { position, done }, Some(state))?;
    let position = begin.position;
    if done {
        let step = position.step;
        log::info!(
            "{}",
            words::where_it_ended(config, &run_dir, &training, step)
        );
        return Ok(());
    }
    let work = match program.train_found() {
        Some(_) => "loading the training step",
        None => "compiling the training step",
    };
    // Compiling takes minutes and may be interrupted, so the run's files are written only after it.
    let compiled = progress.working(work, || together::compile(shared, &position))?;
    let history = resumed::history(before, &run_dir, &position)?;
    describe_run(config, device, &run_dir)?;

    let mut events = Events::start(
        &run_dir,
        &config.to_toml()?,
        config.batch_size,
        &spec,
        Arc::clone(&validation.split),
        &position,
    )?;
    events.first_batch(position.step, &training, &normalization)?;
    let steps = Arc::clone(&training);
    let mut observers: Vec<Box<dyn Observer>> = vec![
        Box::new(progress),
        Box::new(Curves { run_dir: &run_dir }),
        Box::new(events),
        Box::new(Page::new(&run_dir, &spec, &validation)),
    ];
    if let Some(recorded) = config.profile {
        let done = position.step;
        observers.push(Box::new(Profile::start(&run_dir, device, recorded, done)));
    }
    let trainer = Trainer {
        settings: config.trainer(training.steps_per_epoch()),
        program,
        training,
        validation: Arc::new(validation_source(shared, &validation, normalization)),
        history,
        info: checkpoint_info(config, &spec, sum, device, normalization, position)?,
        saver: Some(Saver::start(
            run_dir.checkpoints(),
            config.keep,
            program.layout().clone(),
        )?),
        peers,
        stop: Stop::new(process.signals.clone(), peers),
        observers,
        log: StepLog::every(config.log_every),
        watch: Stopwatch::start(),
    };
    let state = program.upload_state(&state)?;
    let start_s = proc::age();
    let outcome = trainer.run(state)?;
    let executables = program.origins();
    let first_step = outcome.first_step;
    let all_steps = config.all_steps(steps.steps_per_epoch());
    let result = RunResult {
        outcome,
        all_steps,
        device: device.description(),
        replicas: device.replicas,
        start_s,
        first_step_s: first_step.and_then(|call| age_at(call.begin)),
        first_step_called_s: first_step.and_then(|call| age_at(call.end)),
        compile_s: compiled.as_secs_f64(),
        compiled_earlier_s: executables
            .first()
            .filter(|step| step.load_s.is_some())
            .map(|step| step.compile_s),
        executables,
    };
    files::write_json(&run_dir.result(), &result)?;
    let scored = Scored::of(&result.outcome.evaluation, &spec, &validation);
    report::write(
        &run_dir.report(),
        &run_dir,
        &scored,
        &spec,
        &validation,
        None,
    )?;
    if let Some(collectives) = &result.outcome.collectives {
        log::info!("{}", words::about_collectives(collectives));
    }
    let step = result.outcome.steps;
    if step < all_steps {
        log::info!("{}", words::where_it_ended(config, &run_dir, &steps, step));
    }
    log::info!("the run is in {}", run_dir.root().display());
    Ok(())
}

/// Seconds from the start of this process until `moment`.
fn age_at(moment: Instant) -> Option<f64> {
    Some(proc::age()? - moment.elapsed().as_secs_f64())
}

/// Refuses to remove, along with the old run, a file that the new one reads.
fn spare_inputs(args: &TrainArgs, config: &Config) -> Result<()> {
    let named = [
        ("--config", &args.config),
        ("--init-weights", &config.init_weights),
        ("--plugin", &config.plugin),
    ];
    let inputs = named.map(|(by, path)| path.as_ref().map(|path| Named::new(by, path)));
    let executables = args.load_executable.iter();
    let executables = executables.map(|path| Named::new("--load-executable", path));
    let inputs: Vec<Named> = inputs.into_iter().flatten().chain(executables).collect();
    let files = RunDir::of(&config.out_dir).files()?;
    Ok(outputs::spare_inputs(&files, &inputs)?)
}

fn run_dir_mode(args: &TrainArgs) -> RunDirMode {
    match (args.resume, args.overwrite) {
        (true, _) => RunDirMode::Resume,
        (false, true) => RunDirMode::Overwrite,
        (false, false) => RunDirMode::Fresh,
    }
}

/// `state`, if it is random and the settings ask for it with a first convolution that whitens the `training` images.
fn whitened(
    config: &Config,
    program: &Program,
    state: HostState,
    training: &Split,
    normalization: &Normalization,
) -> HostState {
    let specs = program.layout().state();
    let stem = &program.model().network.stem;
    let first = specs.iter().position(|spec| spec.name == stem.kernel());
    let mut values = state.into_values();
    if let (true, None, Some(first)) = (config.whiten, &config.init_weights, first) {
        values[first] = whitening::kernel(training, normalization, stem.outputs);
    }
    HostState::new(values)
}

/// Writes the settings and the environment: `config.toml` and `env.json`. Removes a result from before the
/// run was resumed, which is out of date.
fn describe_run(config: &Config, device: &Device, run_dir: &RunDir) -> Result<()> {
    files::write_text(&run_dir.config(), &config.to_toml()?)?;
    let env = EnvInfo::collect(&device.description(), device.replicas);
    files::write_json(&run_dir.env(), &env)?;
    match std::fs::remove_file(run_dir.result()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("removing the old result")
        }
        _ => Ok(()),
    }
}

/// The metadata of the run's checkpoints; the position advances with the run.
fn checkpoint_info(
    config: &Config,
    spec: &DatasetSpec,
    data_sum: Option<String>,
    device: &Device,
    normalization: Normalization,
    position: Position,
) -> Result<CheckpointInfo> {
    Ok(CheckpointInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: config.model,
        depth: config.depth,
        widths: config.widths,
        stage_units: config.stage_units,
        block: config.block,
        optimizer: config.optimizer,
        averages: config.averaging().is_some(),
        l2: config.l2,
        dataset: config.dataset,
        spec: spec.clone(),
        data_sum,
        normalization,
        config: config.to_toml()?,
        replicas: device.replicas,
        instructions: Some(choose::instructions(device.kind)),
        position,
    })
}

/// This process's share of each batch.
fn training_source(shared: &Shared, split: Split, normalization: Normalization) -> BatchSource {
    let (config, device) = (shared.config, shared.device);
    let options = TrainingOptions {
        augment: config.augment,
        cutout: config.cutout,
        mix: config.mix(),
        seed: config.seed,
        batch_size: config.batch_size,
        shuffle: !config.no_shuffle,
        steps_per_epoch: config.steps_per_epoch,
    };
    BatchSource::training(Arc::new(split), normalization, options)
        .share(device.process(), device.processes())
}

/// This process's share of each batch.
fn validation_source(
    shared: &Shared,
    validation: &Validation,
    normalization: Normalization,
) -> BatchSource {
    let (split, device) = (Arc::clone(&validation.split), shared.device);
    BatchSource::evaluation(split, normalization, shared.config.batch_size)
        .share(device.process(), device.processes())
}
