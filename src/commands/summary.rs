//! `summary`: the layer table.

use anyhow::Result;
use xla_graphs::ResNet;
use xla_graphs::ops::Lowering;

use crate::cli::SummaryArgs;
use crate::config::{ConfigError, check_depth};
use crate::data::CLASSES;
use crate::summary::{self, Summary};

pub fn run(args: &SummaryArgs) -> Result<()> {
    check_depth(args.depth)?;
    // The lowering changes how the network is computed, not what it is.
    let network = ResNet::new(args.depth, CLASSES, Lowering::Native).map_err(ConfigError::from)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&Summary::of(&network))?);
    } else {
        print!("{}", summary::table(&network));
    }
    Ok(())
}
