//! `bench`: how fast the program is on this machine.

use std::fmt::Display;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use xla_graphs::ops::Lowering;

use super::network;
use super::output::{print_json, stdout};
use crate::bench::{
    HostBench, HostReport, InputBench, OpsBench, OpsReport, Pair, PicturesBench, StepBench,
    StepReport,
};
use crate::cli::args::BenchArgs;
use crate::cli::config::{Config, ConfigError, Preset, check_split};
use crate::device::Device;
use crate::device::DeviceChoice;
use crate::device::compile_cache;
use crate::device::replicas::ReplicaChoice;
use crate::model::choose::LoweringChoice;
use crate::model::choose::{self, ModelSettings};
use crate::model::initialise::initial_state;
use crate::model::network::Network;
use crate::model::optimisers::OptimiserSettings;
use crate::model::program::Program;
use crate::model::program_folder::{ProgramFolder, Use};
use crate::model::state::HostState;
use crate::run::checkpoint;

/// Rows and columns of the images that `--pictures` become unless `--image-size` says so.
const PICTURE_SIDE: usize = 224;

pub fn run(args: &BenchArgs) -> Result<()> {
    if let Some(folder) = &args.pictures {
        let bench = PicturesBench {
            folder: folder.clone(),
            side: args.network.image_size.unwrap_or(PICTURE_SIDE),
            augment: args.augment,
            batch_size: args.batch_size as usize,
            rounds: args.epochs as usize,
        };
        print(&bench.run()?, args.json)
    } else if args.input {
        check_size_is_read(args)?;
        let bench = InputBench {
            augment: args.augment,
            batch_size: args.batch_size as usize,
            epochs: args.epochs as usize,
        };
        print(&bench.run()?, args.json)
    } else if args.host {
        print(&host(args)?, args.json)
    } else if args.ops {
        print(&ops(args)?, args.json)
    } else {
        print(&step(args)?, args.json)
    }
}

fn host(args: &BenchArgs) -> Result<HostReport> {
    let device = open(args)?;
    let batch_size = args.batch_size as usize;
    check_split(batch_size, device.replicas)?;
    let bench = HostBench {
        augment: args.augment,
        batch_size,
        epochs: args.epochs as usize,
    };
    bench.run(&device)
}

fn step(args: &BenchArgs) -> Result<StepReport> {
    if let Some(path) = &args.program {
        return step_of_folder(args, ProgramFolder::open(path)?);
    }
    let device = open(args)?;
    let settings = settings(args, &device)?;
    let lowering = lowering(args, &settings, &device)?;
    let program = program(&settings, &device, lowering)?;
    time_step(args, settings.network, &program, &device)
}

/// The step in `folder`, on as many devices as it is for.
fn step_of_folder(args: &BenchArgs, folder: ProgramFolder) -> Result<StepReport> {
    let made_for = NonZeroUsize::new(folder.replicas()).map(ReplicaChoice::Count);
    let cache = args.device.compile_cache.as_deref();
    // What compiling takes is measured too, unless a cache is asked for.
    let cache = cache.unwrap_or(Path::new(compile_cache::NONE));
    let device = open_with(args, args.device.replicas.or(made_for))?.with_cache(Some(cache));
    let settings = *folder.settings();
    let program = Program::of(&device, &settings, Use::Training, Some(folder))?;
    time_step(args, settings.network, &program, &device)
}

fn time_step(
    args: &BenchArgs,
    network: Network,
    program: &Program,
    device: &Device,
) -> Result<StepReport> {
    let bench = StepBench {
        network,
        warmup: args.warmup as usize,
        steps: args.steps as usize,
    };
    bench.run(program, device, &first_state(args, program)?)
}

fn ops(args: &BenchArgs) -> Result<OpsReport> {
    let device = open(args)?;
    let settings = settings(args, &device)?;
    let kernels = choose::lowering(device.kind);
    if kernels != Lowering::Kernels {
        return Err(no_kernels("ops", &device).into());
    }
    let programs = Pair {
        kernels: program(&settings, &device, kernels)?,
        dots: program(&settings, &device, Lowering::Dots)?,
    };
    let bench = OpsBench {
        warmup: args.warmup as usize,
        runs: args.steps as usize,
    };
    let state = first_state(args, &programs.kernels)?;
    bench.run(&device, &programs, &state)
}

fn open(args: &BenchArgs) -> Result<Device> {
    open_with(args, args.device.replicas)
}

fn open_with(args: &BenchArgs, replicas: Option<ReplicaChoice>) -> Result<Device> {
    let choice = args.device.device.unwrap_or(DeviceChoice::Auto);
    let plugin = args.device.plugin.as_deref();
    Ok(Device::open(choice, plugin, replicas)?)
}

fn settings(args: &BenchArgs, device: &Device) -> Result<ModelSettings> {
    let (config, spec) = network::settings(&args.network)?;
    let batch_size = args.batch_size as usize;
    check_split(batch_size, device.replicas)?;
    let usual = config.model(&spec, device.replicas);
    Ok(ModelSettings {
        batch_size,
        precision: args.device.precision,
        units: args.device.units,
        optimiser: OptimiserSettings {
            kind: args.optimizer.unwrap_or(usual.optimiser.kind),
            ..usual.optimiser
        },
        ..usual
    })
}

/// Refuses a size of images that `--input` without pictures would not read.
fn check_size_is_read(args: &BenchArgs) -> Result<(), ConfigError> {
    match args.network.image_size {
        None => Ok(()),
        Some(size) => Err(ConfigError::Unread {
            option: "image-size",
            readers: "networks and --pictures".to_owned(),
            got: format!("--input --image-size {size}"),
        }),
    }
}

/// The lowering that `args` name, or the best one for the device and the network.
fn lowering(args: &BenchArgs, settings: &ModelSettings, device: &Device) -> Result<Lowering> {
    let network = settings
        .network
        .layers(settings.classes)
        .map_err(ConfigError::from)?;
    let suited = choose::lowering_of(&network, device.kind);
    match args.lowering {
        None => Ok(suited),
        Some(LoweringChoice::Native) => Ok(Lowering::Native),
        Some(LoweringChoice::Dots) => Ok(Lowering::Dots),
        Some(LoweringChoice::Kernels) if suited == Lowering::Kernels => Ok(suited),
        Some(LoweringChoice::Kernels) => match choose::beyond_kernels(&network) {
            Some(got) => Err(ConfigError::Value {
                option: "lowering kernels",
                expected: "a network that the CPU's kernels compute",
                got,
            }
            .into()),
            None => Err(no_kernels("lowering kernels", device).into()),
        },
    }
}

fn no_kernels(option: &'static str, device: &Device) -> ConfigError {
    ConfigError::Value {
        option,
        expected: "a CPU with AVX2, the runtime's own or of a plugin that takes the kernels",
        got: device.description(),
    }
}

fn program<'a>(
    settings: &ModelSettings,
    device: &'a Device,
    lowering: Lowering,
) -> Result<Program<'a>> {
    let model = choose::build_as(settings, device.kind, lowering).map_err(ConfigError::from)?;
    Ok(Program::new(device, model))
}

fn first_state(args: &BenchArgs, program: &Program) -> Result<HostState> {
    let keras = Config::preset(Preset::Keras)?;
    let state = initial_state(program.layout(), keras.seed);
    Ok(match &args.init_weights {
        Some(path) => checkpoint::load_into(path, program.layout(), state)?,
        None => state,
    })
}

fn print(report: &(impl Display + Serialize), json: bool) -> Result<()> {
    if json {
        print_json(report)
    } else {
        Ok(writeln!(stdout(), "{report}")?)
    }
}
