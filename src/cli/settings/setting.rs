//! One setting: its option, its defaults, and its value as saved in a run's `config.toml`.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::builder::{
    BoolValueParser, EnumValueParser, PathBufValueParser, TypedValueParser, ValueParser,
};
use clap::{Arg, ArgMatches, ValueEnum};
use serde::Serialize;
use toml::Value;

use super::Preset;
use crate::cli::config_error::ConfigError;
use crate::system::limits;

/// A setting of a training run.
pub struct Setting {
    /// The name of its option and its key in a file.
    pub name: &'static str,
    /// Whether a resumed run may change it.
    pub free: bool,
    /// The first of the settings that were added when it was. The runs of earlier programs have none of them, and go by
    /// their defaults.
    pub came_with: Option<&'static str>,
    variable: String,
    value_name: String,
    help: &'static str,
    /// The default as shown by `--help`.
    stated: Option<String>,
    default: Option<&'static str>,
    /// The presets that have a different default.
    presets: Vec<(Preset, &'static str)>,
    parser: ValueParser,
    shape: fn(Arg) -> Arg,
    to_toml: fn(&Setting, &ArgMatches) -> Result<Option<Value>, ConfigError>,
}

/// The environment variable that sets the option `option`.
pub fn variable(option: &str) -> String {
    format!("RESNET_XLA_{}", option.to_uppercase().replace('-', "_"))
}

impl Setting {
    /// A setting without a default, whose values `parser` checks. A resumed run cannot change it.
    pub fn new<P>(name: &'static str, help: &'static str, parser: P) -> Self
    where
        P: TypedValueParser,
        P::Value: Clone + Serialize + Send + Sync + 'static,
    {
        Self {
            name,
            free: false,
            came_with: None,
            variable: variable(name),
            value_name: name.to_uppercase().replace('-', "_"),
            help,
            stated: None,
            default: None,
            presets: Vec::new(),
            parser: ValueParser::new(parser),
            shape: |arg| arg,
            to_toml: plain::<P::Value>,
        }
    }

    /// One word from a list.
    pub fn choice<E>(name: &'static str, help: &'static str) -> Self
    where
        E: ValueEnum + Clone + Serialize + Send + Sync + 'static,
    {
        Self::new(name, help, EnumValueParser::<E>::new())
    }

    /// A whole number.
    pub fn whole<T>(name: &'static str, help: &'static str, range: RangeInclusive<u64>) -> Self
    where
        T: TryFrom<u64> + Clone + Serialize + Send + Sync + 'static,
    {
        Self::new(name, help, limits::whole::<T>(range)).value_name("N")
    }

    pub fn real(name: &'static str, help: &'static str, range: RangeInclusive<f64>) -> Self {
        Self::new(name, help, limits::real(range))
    }

    pub fn path(name: &'static str, help: &'static str) -> Self {
        Self {
            to_toml: path,
            ..Self::new(name, help, PathBufValueParser::new())
        }
    }

    /// Off, unless it is given.
    pub fn flag(name: &'static str, help: &'static str) -> Self {
        Self {
            default: Some("false"),
            value_name: "BOOL".to_owned(),
            shape: |arg| arg.num_args(0..=1).default_missing_value("true"),
            ..Self::new(name, help, BoolValueParser::new())
        }
    }

    pub fn value_name(self, name: &str) -> Self {
        Self {
            value_name: name.to_owned(),
            ..self
        }
    }

    pub fn default(self, value: &'static str) -> Self {
        Self {
            default: Some(value),
            ..self.stated(value)
        }
    }

    /// Sets a different default in `preset`.
    pub fn in_preset(mut self, preset: Preset, value: &'static str) -> Self {
        self.presets.push((preset, value));
        let others = self.stated.unwrap_or_default();
        Self {
            stated: Some(format!("{others}; {}: {value}", preset.name())),
            ..self
        }
    }

    /// Describes the default in words, if it depends on more than the preset.
    pub fn stated(self, default: &str) -> Self {
        Self {
            stated: Some(default.to_owned()),
            ..self
        }
    }

    /// Lets a resumed run change the setting.
    pub fn free(self) -> Self {
        Self { free: true, ..self }
    }

    /// Was not there from the beginning; `first` is the first of the settings that were added then.
    pub fn came_with(self, first: &'static str) -> Self {
        Self {
            came_with: Some(first),
            ..self
        }
    }

    /// Adjusts the clap option, for example to allow hyphens in its value.
    pub fn shape(self, shape: fn(Arg) -> Arg) -> Self {
        Self { shape, ..self }
    }

    /// The default in `preset`, as written on a command line.
    pub fn default_in(&self, preset: Preset) -> Option<&'static str> {
        let own = self.presets.iter().find(|(of, _)| *of == preset);
        match (own, preset.base()) {
            (Some((_, value)), _) => Some(value),
            (None, Some(base)) => self.default_in(base),
            (None, None) => self.default,
        }
    }

    /// The command-line option, with its environment variable.
    pub fn arg(&'static self) -> Arg {
        let help = match &self.stated {
            Some(default) => format!("{} [default: {default}]", self.help),
            None => self.help.to_owned(),
        };
        let arg = Arg::new(self.name)
            .long(self.name)
            .env(self.variable.as_str())
            .value_name(self.value_name.as_str())
            .value_parser(self.parser.clone())
            .help(help);
        (self.shape)(arg)
    }

    /// The setting's value in `matches`, if any, in the form that is saved.
    pub fn value(&self, matches: &ArgMatches) -> Result<Option<Value>, ConfigError> {
        (self.to_toml)(self, matches)
    }
}

fn plain<T>(setting: &Setting, matches: &ArgMatches) -> Result<Option<Value>, ConfigError>
where
    T: Clone + Serialize + Send + Sync + 'static,
{
    let value = matches.get_one::<T>(setting.name).map(Value::try_from);
    value.transpose().map_err(ConfigError::unsavable)
}

fn path(setting: &Setting, matches: &ArgMatches) -> Result<Option<Value>, ConfigError> {
    let Some(path) = matches.get_one::<PathBuf>(setting.name) else {
        return Ok(None);
    };
    match path.to_str() {
        Some(text) => Ok(Some(text.into())),
        None => Err(ConfigError::NotText {
            option: setting.name,
            variable: setting.variable.clone(),
            path: path.clone(),
        }),
    }
}
