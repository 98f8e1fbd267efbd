//! `import`: the weights of a PyTorch module as a checkpoint.

use std::io::Write;

use anyhow::Result;
use safetensors::Dtype;
use xla_graphs::network::Version;

use super::output::stdout;
use crate::cli::args::ImportArgs;
use crate::cli::config::{ConfigError, check_side};
use crate::data::{self, DatasetKind, DatasetSpec, Normalization};
use crate::import::{self, Channels, Imported};
use crate::model::network::{Network, NetworkKind};
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

/// What weights were trained on.
struct Images {
    side: usize,
    dataset: DatasetKind,
    normalization: Normalization,
}

impl Images {
    /// What `args` say, and else what published weights of such a network were trained on.
    fn of(args: &ImportArgs) -> Self {
        let usual = Self::usual(args.model);
        let dataset = args.dataset.unwrap_or(usual.dataset);
        let side = data::known_spec(dataset).map_or(usual.side, |spec| spec.side);
        let scaled = |channels: Channels| channels.0.map(|value| value * WHITE);
        Self {
            side: args.image_size.unwrap_or(side),
            dataset,
            normalization: Normalization {
                mean: args.mean.map_or(usual.normalization.mean, scaled),
                std: args.std.map_or(usual.normalization.std, scaled),
            },
        }
    }

    fn usual(kind: NetworkKind) -> Self {
        match kind.version() {
            Version::V1 => Self {
                side: 224,
                dataset: DatasetKind::Folder,
                normalization: Normalization::IMAGENET,
            },
            Version::V2 => Self {
                side: 32,
                dataset: DatasetKind::Cifar10,
                normalization: Normalization {
                    mean: [0.4914, 0.4822, 0.4465].map(|value| value * WHITE),
                    std: [0.2470, 0.2435, 0.2616].map(|value| value * WHITE),
                },
            },
        }
    }
}

pub fn run(args: &ImportArgs) -> Result<()> {
    let network = Network {
        kind: args.model,
        depth: args.depth,
        widths: args.widths,
        stage_units: args.stage_units,
        block: args.block,
    };
    let images = Images::of(args);
    check_side(network, images.side)?;
    RunDir::check(&args.out_dir, RunDirMode::Fresh)?;
    let imported = import::load(&args.from, network)?;
    let info = info(args, network, &images, &imported)?;
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
fn info(
    args: &ImportArgs,
    network: Network,
    images: &Images,
    imported: &Imported,
) -> Result<CheckpointInfo> {
    let spec = DatasetSpec {
        side: images.side,
        class_names: class_names(args, images.dataset, imported.classes)?,
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
        dataset: images.dataset,
        spec,
        data_sum: None,
        normalization: images.normalization,
        config: String::new(),
        replicas: 1,
        instructions: None,
        position: Position::default(),
    })
}

/// The names of `classes` classes: of the file that `args` name, of the official data set, or else the numbers.
fn class_names(
    args: &ImportArgs,
    dataset: DatasetKind,
    classes: usize,
) -> Result<Vec<String>, ConfigError> {
    let names = match (&args.class_names, dataset) {
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
