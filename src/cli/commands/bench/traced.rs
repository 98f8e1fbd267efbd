//! What `bench` times of networks that are traced now: a whole step, or each of its operations.

use anyhow::Result;
use xla_graphs::ops::Lowering;

use super::{first_state, open, time_step};
use crate::bench::{OpsBench, OpsReport, Pair, StepReport};
use crate::cli::args::BenchArgs;
use crate::cli::commands::network;
use crate::cli::config::{ConfigError, check_split};
use crate::device::Device;
use crate::model::choose::LoweringChoice;
use crate::model::choose::{self, ModelSettings};
use crate::model::optimisers::OptimiserSettings;
use crate::model::program::Program;

pub fn step(args: &BenchArgs) -> Result<StepReport> {
    let device = open(args)?;
    let settings = settings(args, &device)?;
    let lowering = lowering(args, &settings, &device)?;
    let program = program(&settings, &device, lowering)?;
    time_step(args, settings.network, &program, &device)
}

pub fn ops(args: &BenchArgs) -> Result<OpsReport> {
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

/// The lowering that `args` name, or the best one for the device and the network.
fn lowering(args: &BenchArgs, settings: &ModelSettings, device: &Device) -> Result<Lowering> {
    let network = settings
        .network
        .layers(settings.classes)
        .map_err(ConfigError::from)?;
    let suited = choose::lowering_of(&network, device.kind);
    match args.lowering {
        None => Ok(suited),
        Some(asked @ (LoweringChoice::Native | LoweringChoice::Tpu | LoweringChoice::Dots)) => {
            Ok(asked.into())
        }
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
