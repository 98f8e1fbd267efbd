//! `import`: the weights of a PyTorch module as a checkpoint.

use std::io::Write;

use anyhow::Result;
use safetensors::Dtype;

use super::output::stdout;
use crate::cli::args::ImportArgs;
use crate::cli::config::{ConfigError, check_side};
use crate::data::{self, DatasetKind, DatasetSpec, Normalization};
use crate::import::{self, Imported};
use crate::model::network::{BlockChoice, Network, StageUnits};
use crate::model::optimisers::OptimiserKind;
use crate::model::summary::grouped;
use crate::run::checkpoint::{self, CheckpointInfo, Position};
use crate::run::run_dir::{RunDir, RunDirMode};
use crate::system::files;
use crate::system::text::shown;

/// PyTorch's pixels are from 0 to 1.
const WHITE: f32 = 255.0;
/// Names of classes are read from files of at most so many bytes.
const LONGEST_NAMES: u64 = 16 << 20;

pub fn run(args: &ImportArgs) -> Result<()> {
    let network = Network {
        kind: args.model,
        depth: args.depth,
        widths: args.widths,
        stage_units: StageUnits::default(),
        block: BlockChoice::default(),
    };
    check_side(network, args.image_size)?;
    RunDir::check(&args.out_dir, RunDirMode::Fresh)?;
    let imported = import::load(&args.from, network)?;
    let info = info(args, network, &imported)?;
    let Imported { layout, values, .. } = imported;
    let run_dir = RunDir::create(&args.out_dir, RunDirMode::Fresh)?;
    let path = run_dir.checkpoints().join(checkpoint::file_name(0));
    checkpoint::save_network(&path, &layout, &values, &info, Dtype::F32)?;
    writeln!(
        stdout(),
        "{}: {network}, {} classes, {} tensors, {} parameters",
        shown(&path),
        info.spec.classes(),
        layout.network().len(),
        grouped(layout.total_parameters())
    )?;
    Ok(())
}

/// What the checkpoint says of the network.
fn info(args: &ImportArgs, network: Network, imported: &Imported) -> Result<CheckpointInfo> {
    let spec = DatasetSpec {
        side: args.image_size,
        class_names: class_names(args, imported.classes)?,
    };
    data::check_spec(&spec).map_err(|reason| ConfigError::Value {
        option: "class-names",
        expected: "names that can be shown",
        got: reason,
    })?;
    Ok(CheckpointInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: network.kind,
        depth: network.depth,
        widths: network.widths,
        stage_units: network.stage_units,
        block: network.block,
        optimizer: OptimiserKind::Sgd,
        averages: false,
        l2: 0.0,
        dataset: args.dataset,
        spec,
        data_sum: None,
        normalization: Normalization {
            mean: args.mean.0.map(|mean| mean * WHITE),
            std: args.std.0.map(|std| std * WHITE),
        },
        config: String::new(),
        replicas: 1,
        instructions: None,
        position: Position::default(),
    })
}

/// The names of `classes` classes: of the file that `args` name, of the official data set, or else the numbers.
fn class_names(args: &ImportArgs, classes: usize) -> Result<Vec<String>, ConfigError> {
    let names = match (&args.class_names, args.dataset) {
        (Some(path), _) => {
            let text = files::read_text(path, LONGEST_NAMES);
            let text = text.map_err(|reason| ConfigError::Value {
                option: "class-names",
                expected: "a text file that can be read",
                got: format!("{}: {reason}", path.display()),
            })?;
            text.lines().map(str::to_owned).collect()
        }
        (None, DatasetKind::Cifar10 | DatasetKind::Sample) => data::cifar10_spec().class_names,
        (None, DatasetKind::Cifar100) => data::cifar100_spec().class_names,
        (None, _) => (0..classes).map(|class| class.to_string()).collect(),
    };
    if names.len() == classes {
        return Ok(names);
    }
    Err(ConfigError::Value {
        option: "class-names",
        expected: "a file with a line for each class of the network, which has as many as its last layer has outputs",
        got: format!("{} names for {classes} classes", names.len()),
    })
}
