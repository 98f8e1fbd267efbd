//! `summary`: the layer table.

use std::io::Write;

use anyhow::Result;
use xla_graphs::ResNet;
use xla_graphs::ops::Lowering;

use super::output::{print_json, stdout};
use crate::cli::args::SummaryArgs;
use crate::cli::config::ConfigError;
use crate::data;
use crate::model::network::Network;
use crate::model::summary::{self, Summary};

pub fn run(args: &SummaryArgs) -> Result<()> {
    let kind = Network {
        kind: args.model,
        depth: args.depth,
        widths: args.widths,
    };
    let architecture = kind.architecture().map_err(ConfigError::from)?;
    let spec = data::cifar10_spec();
    // The lowering changes how the network is computed, not its structure.
    let network =
        ResNet::new(&architecture, spec.classes(), Lowering::Native).map_err(ConfigError::from)?;
    if args.json {
        print_json(&Summary::of(&network, spec.side))
    } else {
        Ok(write!(
            stdout(),
            "{}",
            summary::table(&kind.to_string(), &network, spec.side)
        )?)
    }
}
