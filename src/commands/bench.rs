//! `bench`: how fast the program is on this machine.

use std::fmt::Display;

use anyhow::Result;
use serde::Serialize;

use crate::bench::{HostBench, HostReport, InputBench, StepBench, StepReport};
use crate::checkpoint;
use crate::cli::BenchArgs;
use crate::config::{Config, ConfigError, DeviceChoice, Preset, check_split};
use crate::device::Device;
use crate::initialise::initial_state;
use crate::model::{self, ModelSettings};
use crate::program::Program;

pub fn run(args: &BenchArgs) -> Result<()> {
    if args.input {
        let bench = InputBench {
            augment: args.augment,
            batch_size: args.batch_size as usize,
            epochs: args.epochs as usize,
        };
        print(&bench.run()?, args.json)
    } else if args.host {
        print(&host(args)?, args.json)
    } else {
        print(&step(args)?, args.json)
    }
}

fn host(args: &BenchArgs) -> Result<HostReport> {
    let choice = args.device.device.unwrap_or(DeviceChoice::Auto);
    let device = Device::open(choice, args.device.plugin.as_deref(), args.device.replicas)?;
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
    let keras = Config::preset(Preset::Keras);
    let choice = args.device.device.unwrap_or(DeviceChoice::Auto);
    let plugin = args.device.plugin.as_deref();
    let device = Device::open(choice, plugin, args.device.replicas)?;
    let batch_size = args.batch_size as usize;
    check_split(batch_size, device.replicas)?;
    let settings = ModelSettings {
        depth: args.depth,
        batch_size,
        replicas: device.replicas,
        precision: args.device.precision,
        batch_norm: keras.bn,
        l2: keras.l2,
        momentum: keras.momentum,
    };
    let model = model::build(&settings, device.kind).map_err(ConfigError::from)?;
    let program = Program::new(&device, model);
    let mut state = initial_state(program.layout(), keras.seed);
    if let Some(path) = &args.init_weights {
        state = checkpoint::load_into(path, program.layout(), state)?;
    }
    let bench = StepBench {
        warmup: args.warmup as usize,
        steps: args.steps as usize,
    };
    bench.run(&program, &device, &state)
}

fn print(report: &(impl Display + Serialize), json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}
