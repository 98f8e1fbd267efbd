//! `summary`: the layer table.

use std::io::Write;

use anyhow::Result;
use xla_graphs::ops::Lowering;
use xla_graphs::{Architecture, ResNet};

use super::output::{print_json, stdout};
use crate::cli::args::SummaryArgs;
use crate::cli::config::{Config, ConfigError, Preset};
use crate::model::summary::{self, Summary};

pub fn run(args: &SummaryArgs) -> Result<()> {
    // The lowering changes how the network is computed, not its structure.
    let architecture = Architecture::resnet_v2(args.depth).map_err(ConfigError::from)?;
    let spec = Config::preset(Preset::Keras)?.dataset.spec();
    let network =
        ResNet::new(&architecture, spec.classes(), Lowering::Native).map_err(ConfigError::from)?;
    if args.json {
        print_json(&Summary::of(&network, spec.side))
    } else {
        Ok(write!(stdout(), "{}", summary::table(&network, spec.side))?)
    }
}
