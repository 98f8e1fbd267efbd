//! `bench`: how fast the program is on this machine.

mod all_sets;
#[cfg(feature = "trace")]
mod traced;

use std::fmt::Display;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

pub use self::all_sets::SetFailed;
use super::output::{print_json, stdout};
use crate::bench::{HostBench, HostReport, InputBench, PicturesBench, StepBench, StepReport};
use crate::cli::args::BenchArgs;
use crate::cli::config::{Config, ConfigError, Preset, check_split};
use crate::device::Device;
use crate::device::DeviceChoice;
use crate::device::compile_cache;
use crate::device::replicas::ReplicaChoice;
use crate::model::initialise::initial_state;
use crate::model::network::Network;
use crate::model::program::Program;
use crate::model::program_folder::{ProgramFolder, Use};
use crate::model::state::HostState;
#[cfg(not(feature = "trace"))]
use crate::model::tracing;
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
    } else if args.all_sets {
        all_sets::run(args)
    } else if let Some(path) = &args.program {
        print(
            &step_of_folder(args, ProgramFolder::open(path)?)?,
            args.json,
        )
    } else {
        traced(args)
    }
}

/// Times what is traced now.
#[cfg(feature = "trace")]
fn traced(args: &BenchArgs) -> Result<()> {
    match args.ops {
        true => print(&traced::ops(args)?, args.json),
        false => print(&traced::step(args)?, args.json),
    }
}

/// Says that nothing can be traced.
#[cfg(not(feature = "trace"))]
fn traced(args: &BenchArgs) -> Result<()> {
    Ok(tracing::check(match args.ops {
        true => "bench --ops",
        false => "bench without --program",
    })?)
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

/// The step in `folder`, on as many devices as it is for.
fn step_of_folder(args: &BenchArgs, folder: ProgramFolder) -> Result<StepReport> {
    let made_for = NonZeroUsize::new(folder.replicas()).map(ReplicaChoice::Count);
    let device = open_with(args, args.device.replicas.or(made_for))?;
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

fn open(args: &BenchArgs) -> Result<Device> {
    open_with(args, args.device.replicas)
}

fn open_with(args: &BenchArgs, replicas: Option<ReplicaChoice>) -> Result<Device> {
    let choice = args.device.device.unwrap_or(DeviceChoice::Auto);
    let plugin = args.device.plugin.as_deref();
    let cache = args.device.compile_cache.as_deref();
    // What compiling takes is measured too, unless a cache is asked for.
    let cache = cache.unwrap_or(Path::new(compile_cache::NONE));
    Ok(Device::open(choice, plugin, replicas)?.with_cache(Some(cache)))
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
