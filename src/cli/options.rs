//! The settings of a run as clap options.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, value_parser};

use crate::cli::args::CheckpointArgs;
use crate::cli::config_error::ConfigError;
use crate::cli::settings;
use crate::data::DatasetKind;
use crate::device::DeviceChoice;
use crate::device::replicas::ReplicaChoice;
use crate::model::choose::{PrecisionChoice, UnitsChoice};

/// Options of a training run. Each setting is also a key of the `-c` file; a missing option comes from the
/// environment (`RESNET_XLA_*`; an empty variable counts as not set), then the file, then the preset.
#[derive(Clone, Debug)]
pub struct TrainArgs {
    pub config: Option<PathBuf>,
    pub overwrite: bool,
    pub resume: bool,
    pub load_executable: Vec<PathBuf>,
    matches: ArgMatches,
}

impl TrainArgs {
    /// The settings that the options and the environment name.
    pub fn settings(&self) -> Result<toml::Table, ConfigError> {
        let mut table = toml::Table::new();
        for setting in settings::all() {
            if let Some(value) = setting.value(&self.matches)? {
                table.insert(setting.name.to_owned(), value);
            }
        }
        Ok(table)
    }

    /// Whether an option or the environment names the data folder.
    pub fn names_data_dir(&self) -> bool {
        self.matches.contains_id("data-dir")
    }
}

impl FromArgMatches for TrainArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self {
            config: matches.get_one("config").cloned(),
            overwrite: matches.get_flag("overwrite"),
            resume: matches.get_flag("resume"),
            load_executable: matches
                .get_many::<PathBuf>("load-executable")
                .map(|files| files.cloned().collect())
                .unwrap_or_default(),
            matches: matches.clone(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for TrainArgs {
    fn augment_args(command: Command) -> Command {
        settings::all().iter().fold(command, |command, setting| {
            let command = command.arg(setting.arg());
            match setting.name {
                "preset" => command.arg(config()),
                "compile-cache" => command.arg(load_executable()),
                "out-dir" => command.arg(overwrite()).arg(resume()),
                _ => command,
            }
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn config() -> Arg {
    Arg::new("config")
        .short('c')
        .long("config")
        .env("RESNET_XLA_CONFIG")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("TOML file with the same names as these options")
}

fn overwrite() -> Arg {
    Arg::new("overwrite")
        .long("overwrite")
        .action(ArgAction::SetTrue)
        .help("Replace the run in the folder")
}

fn resume() -> Arg {
    Arg::new("resume")
        .long("resume")
        .action(ArgAction::SetTrue)
        .conflicts_with_all(["overwrite", "init-weights"])
        .help(
            "Resume the run in the folder where it stopped. Its settings are kept; --epochs or --max-steps \
             changes where it ends",
        )
}

fn load_executable() -> Arg {
    Arg::new("load-executable")
        .long("load-executable")
        .value_name("FILE")
        .action(ArgAction::Append)
        .value_parser(value_parser!(PathBuf))
        .help(
            "Load the compiled computation in this file, which `compile --save-executable` wrote, instead of compiling \
             it; may be given again for another computation",
        )
}

/// The device, and the precision of the computation.
#[derive(Clone, Debug)]
pub struct DeviceArgs {
    pub device: Option<DeviceChoice>,
    pub plugin: Option<PathBuf>,
    pub compile_cache: Option<PathBuf>,
    pub replicas: Option<ReplicaChoice>,
    pub precision: Option<PrecisionChoice>,
    pub units: Option<UnitsChoice>,
}

impl FromArgMatches for DeviceArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self {
            device: matches.get_one("device").copied(),
            plugin: matches.get_one("plugin").cloned(),
            compile_cache: matches.get_one("compile-cache").cloned(),
            replicas: matches.get_one("replicas").copied(),
            precision: matches.get_one("precision").copied(),
            units: matches.get_one("units").copied(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for DeviceArgs {
    fn augment_args(command: Command) -> Command {
        command.args(args(&[
            "device",
            "plugin",
            "compile-cache",
            "replicas",
            "precision",
            "units",
        ]))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The data set and its folder.
#[derive(Clone, Debug)]
pub struct DataArgs {
    pub dataset: Option<DatasetKind>,
    pub data_dir: Option<PathBuf>,
}

impl FromArgMatches for DataArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self {
            dataset: matches.get_one("dataset").copied(),
            data_dir: matches.get_one("data-dir").cloned(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for DataArgs {
    fn augment_args(command: Command) -> Command {
        command.args(args(&["dataset", "data-dir"]))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Which of the options of a checkpoint, its device and its data the command line names. One that the environment sets is
/// meant for other commands too, and is none of them.
#[derive(Clone, Debug)]
pub struct NamedOptions(pub Vec<String>);

impl FromArgMatches for NamedOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let command = CheckpointArgs::augment_args(Command::new("one run"));
        let is_named = |arg: &&Arg| {
            matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
        };
        let named = command.get_arguments().filter(is_named);
        let names = named.filter_map(Arg::get_long).map(str::to_owned);
        Ok(Self(names.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// It has no options of its own.
impl Args for NamedOptions {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

/// The options of the settings `names`.
fn args(names: &[&str]) -> impl Iterator<Item = Arg> {
    names
        .iter()
        .filter_map(|name| settings::find(name))
        .map(|setting| setting.arg())
}
