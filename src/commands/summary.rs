//! `summary`: the layer table.

use anyhow::Result;
use xla_graphs::ResNet;
use xla_graphs::ops::Lowering;

use crate::cli::SummaryArgs;
use crate::config::ConfigError;
use crate::data::CLASSES;
use crate::summary;

pub fn run(args: &SummaryArgs) -> Result<()> {
    // The lowering changes how the network is computed, not what it is.
    let network = ResNet::new(args.depth, CLASSES, Lowering::Native).map_err(ConfigError::from)?;
    print!("{}", summary::table(&network));
    Ok(())
}
