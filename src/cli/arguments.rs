//! One parser for the command line, the environment, `-c` files and presets.

use std::any::TypeId;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Args, Command, CommandFactory, Error, FromArgMatches};
use toml::Table;

use crate::cli::args::{Cli, TrainArgs};
use crate::cli::config_error::ConfigError;
use crate::cli::settings::{self, Preset};
use crate::cli::tilde;
use crate::data::HeldOut;
use crate::device::replicas::ReplicaChoice;

/// Parses `words`, the first of which is the program's name, together with the environment.
pub fn parse(words: &[OsString]) -> Result<Cli, Error> {
    parse_without(words, None).map_err(|error| name_variable(error, words))
}

/// Parses training options, each `--NAME=VALUE`; ignores the environment.
pub fn parse_training(options: &[String]) -> Result<TrainArgs, Error> {
    let command = TrainArgs::augment_args(Command::new("train")).no_binary_name(true);
    let mut command = checked(command, &|_| false);
    let matches = command.try_get_matches_from_mut(options)?;
    TrainArgs::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// The settings of `preset`.
pub fn defaults(preset: Preset) -> Result<Table, ConfigError> {
    let options = settings::defaults(preset);
    let args = parse_training(&options).map_err(ConfigError::unsavable)?;
    args.settings()
}

/// The program's command line, with the environment variables that are set. An empty one counts as not set.
pub fn command() -> Command {
    checked(Cli::command(), &|variable| !is_empty(variable))
}

/// The environment variables that set an option of any command.
pub fn variables() -> Vec<String> {
    let mut variables = variables_of(&Cli::command());
    variables.sort();
    variables.dedup();
    variables
}

/// Whether an option accepts a number, even if it accepts other values too.
pub fn is_number(arg: &Arg) -> bool {
    let numbers = [
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<usize>(),
        TypeId::of::<f64>(),
        TypeId::of::<ReplicaChoice>(),
        TypeId::of::<HeldOut>(),
    ];
    let value = arg.get_value_parser().type_id();
    arg.get_action().takes_values() && numbers.iter().any(|number| value == *number)
}

/// Whether an option takes a path.
pub fn is_path(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<PathBuf>()
}

fn parse_without(words: &[OsString], variable: Option<&str>) -> Result<Cli, Error> {
    let mut command = checked(Cli::command(), &|name| {
        !is_empty(name) && Some(name) != variable
    });
    let matches = command.try_get_matches_from_mut(words)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

fn is_empty(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| value.is_empty())
}

/// Adds to `command` what applies to all path options and all number options. Only variables for which `takes`
/// returns true can set an option.
fn checked(command: Command, takes: &dyn Fn(&str) -> bool) -> Command {
    let command = command.mut_subcommands(|command| checked(command, takes));
    command.mut_args(|arg| {
        let variable = arg.get_env().map(|name| name.to_string_lossy());
        let arg = match variable.is_some_and(|name| !takes(&name)) {
            true => arg.env(None),
            false => arg,
        };
        if is_path(&arg) {
            let home = |path| tilde::expand(path, env::var_os("HOME"));
            arg.value_parser(PathBufValueParser::new().try_map(home))
        } else if is_number(&arg) {
            // Without this, `--depth -1` is reported as an unknown option -1.
            arg.allow_negative_numbers(true)
        } else {
            arg
        }
    })
}

fn variables_of(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(Arg::get_env);
    let own = own.map(|name| name.to_string_lossy().into_owned());
    own.chain(command.get_subcommands().flat_map(variables_of))
        .collect()
}

/// The text of `error` before its usage, which lists all options that have a value, whoever is wrong.
fn complaint(error: &Error) -> String {
    let text = error.to_string();
    let complaint = text.split("Usage:").next().unwrap_or_default();
    complaint.to_owned()
}

/// Adds to `error` the environment variable that causes it, if there is one: without that variable, parsing the same
/// words succeeds or fails differently.
fn name_variable(mut error: Error, words: &[OsString]) -> Error {
    let culprit = variables().into_iter().find_map(|name| {
        let value = env::var_os(&name).filter(|value| !value.is_empty())?;
        let differs = match parse_without(words, Some(&name)) {
            Ok(_) => true,
            Err(other) => complaint(&other) != complaint(&error),
        };
        differs.then_some((name, value))
    });
    if let Some((name, value)) = culprit {
        let value = value.display();
        let tip = format!("{name}={value} is set in the environment; correct or unset it");
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}
