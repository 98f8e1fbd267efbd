//! `summary`: the layer table.

use std::io::Write;

use anyhow::Result;

use super::network;
use super::output::{print_json, stdout};
use crate::cli::args::SummaryArgs;
use crate::cli::config::ConfigError;
use crate::model::summary::{self, Summary};

pub fn run(args: &SummaryArgs) -> Result<()> {
    let (config, spec) = network::settings(&args.network)?;
    let named = config.network();
    let network = named.layers(spec.classes()).map_err(ConfigError::from)?;
    if args.json {
        print_json(&Summary::of(&network, spec.side))
    } else {
        Ok(write!(
            stdout(),
            "{}",
            summary::table(&named.to_string(), &network, spec.side)
        )?)
    }
}
