//! Settings in a file: `-c`, and a run's `config.toml`.
//!
//! Each key is the name of a setting, and each value goes through the parser of its option.

use std::path::{Path, PathBuf};

use toml::Table;

use crate::cli::arguments;
use crate::cli::config_error::ConfigError;
use crate::cli::settings::{self, Preset};
use crate::cli::spelling::near_miss;
use crate::system::files;
use crate::system::text;

/// Longer files are not read.
pub const MAX_LEN: u64 = 64 << 10;

/// The settings in a run's `config.toml`, which names all that have a value: all that the program had that wrote it.
pub fn read_saved(path: &Path) -> Result<Table, ConfigError> {
    let settings = read(path)?;
    let is_newer = |name: &str| settings::find(name).is_some_and(|setting| setting.newer);
    // A file that has one of the newer settings has them all: the last of them may be its last line.
    let knows_newer = settings.keys().any(|name| is_newer(name));
    let needed = arguments::defaults(Preset::Keras)?;
    let mut needed = needed
        .into_iter()
        .filter(|(name, _)| knows_newer || !is_newer(name));
    match needed.find(|(name, _)| !settings.contains_key(name)) {
        None => Ok(settings),
        Some((name, _)) => Err(ConfigError::Parse {
            path: path.to_owned(),
            message: format!("it is cut short: it has no `{name}`"),
        }),
    }
}

/// The folder of the data that a run with the settings `config` worked on.
pub fn saved_data_dir(config: &str) -> Option<PathBuf> {
    let settings: Table = config.parse().ok()?;
    Some(PathBuf::from(settings.get("data-dir")?.as_str()?))
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    files::read_text(path, MAX_LEN).map_err(|reason| ConfigError::Read {
        path: path.to_owned(),
        reason,
    })
}

/// The settings in a `-c` file.
pub fn read(path: &Path) -> Result<Table, ConfigError> {
    parse(path, &read_text(path)?)
}

/// The settings in `content`, that of the file at `path`: each goes through the parser of its option.
pub fn parse(path: &Path, content: &str) -> Result<Table, ConfigError> {
    let wrong = |message: String| ConfigError::Parse {
        path: path.to_owned(),
        message,
    };
    let table: Table =
        toml::from_str(content).map_err(|error| wrong(text::toml_error(&error, content)))?;
    let known: Vec<String> = settings::all().iter().map(|s| s.name.to_owned()).collect();
    let mut options = Vec::new();
    for (key, value) in &table {
        if !known.contains(key) {
            let hint = near_miss(key, &known);
            return Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                key: key.clone(),
                hint: hint.map_or(String::new(), |near| format!(", did you mean `{near}`?")),
            });
        }
        let value = plain(value).ok_or_else(|| {
            let got = value.type_str();
            wrong(format!(
                "{key}: expected a number, text, true or false, got {got}"
            ))
        })?;
        options.push(format!("--{key}={value}"));
    }
    let args = arguments::parse_training(&options).map_err(|error| wrong(one_line(&error)))?;
    args.settings()
}

/// A number, a text or a flag as it would stand on a command line.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        // With a point or an exponent: 20.0 is no whole number.
        toml::Value::Float(number) => Some(format!("{number:?}")),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// What clap says, without its advice about the command line.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim);
    let about = lines.take_while(|line| !line.starts_with("For more information"));
    let about: Vec<_> = about.filter(|line| !line.is_empty()).collect();
    about.join(" ").trim_start_matches("error: ").to_owned()
}
