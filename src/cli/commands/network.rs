//! The network that `summary`, `bench` and `compile` take from their options.

use crate::cli::args::NetworkArgs;
use crate::cli::config::{Config, ConfigError, check_side, unread_by_model};
use crate::data::DatasetSpec;

/// The settings by which the model's preset trains the network of `args`, and what images it is for.
///
/// # Errors
/// Options that the kind of network does not read; numbers of which there is no network, or none for such images.
pub fn settings(args: &NetworkArgs) -> Result<(Config, DatasetSpec), ConfigError> {
    check_is_read(args)?;
    let usual = Config::of_model(args.model)?;
    let config = Config {
        depth: args.depth.unwrap_or(usual.depth),
        widths: args.widths.unwrap_or(usual.widths),
        stage_units: args.stage_units.unwrap_or(usual.stage_units),
        block: args.block.unwrap_or(usual.block),
        ..usual
    };
    let images = args.model.row().images;
    let classes = args.classes.unwrap_or(images.classes);
    let spec = DatasetSpec {
        side: args.image_size.unwrap_or(images.side),
        class_names: (0..classes).map(|class| class.to_string()).collect(),
    };
    check_side(config.network(), spec.side)?;
    Ok((config, spec))
}

/// Refuses options that the kind of network does not read.
fn check_is_read(args: &NetworkArgs) -> Result<(), ConfigError> {
    let options = [
        ("depth", args.depth.is_some()),
        ("widths", args.widths.is_some()),
        ("stage-units", args.stage_units.is_some()),
        ("block", args.block.is_some()),
    ];
    let read = args.model.settings();
    let unread = options
        .iter()
        .find(|(option, is_given)| *is_given && !read.contains(option));
    match unread {
        Some((option, _)) => Err(unread_by_model(option, args.model)),
        None => Ok(()),
    }
}
