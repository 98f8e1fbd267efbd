//! `bench`: how fast the program is on this machine.

use anyhow::Result;

use crate::bench::StepBench;
use crate::cli::BenchArgs;
use crate::config::{Config, ConfigError, DeviceChoice, Preset, check_split};
use crate::device::Device;
use crate::model::{self, ModelSettings};
use crate::program::Program;

pub fn run(args: &BenchArgs) -> Result<()> {
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
    let bench = StepBench {
        warmup: args.warmup as usize,
        steps: args.steps as usize,
    };
    let report = bench.run(&Program::new(&device, model), &device)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}
