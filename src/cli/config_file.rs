//! Settings in a file: `-c`, and a run's `config.toml`.
//!
//! Each key is the name of a setting, and each value is parsed like the option's value.

use std::path::{Path, PathBuf};

use toml::Table;

use crate::cli::arguments;
use crate::cli::config_error::ConfigError;
use crate::cli::settings::{self, Preset, Setting};
use crate::cli::spelling::near_miss;
use crate::data::{HeldOut, Size};
use crate::system::files;
use crate::system::text;

/// Longer files are not read.
pub const MAX_LEN: u64 = 64 << 10;

/// The settings in a run's `config.toml`, completed as [`parse_saved`] does.
pub fn read_saved(path: &Path) -> Result<Table, ConfigError> {
    parse_saved(path, &read_text(path)?)
}

/// The settings that a run saved as `content`, which lists all settings that have a value and that its program knew.
/// Those that came later get the values that mean what the program did without them, whatever the run's preset says
/// today. Errors name `path`.
pub fn parse_saved(path: &Path, content: &str) -> Result<Table, ConfigError> {
    let mut saved = parse(path, content)?;
    let had = |setting: &Setting| {
        let first = setting.came_with;
        first.is_none_or(|first| saved.contains_key(first))
    };
    let with_default = |setting: &&Setting| setting.default_in(Preset::Keras).is_some();
    let mut needed = settings::all().iter().filter(with_default);
    if let Some(lost) = needed.find(|setting| had(setting) && !saved.contains_key(setting.name)) {
        return Err(ConfigError::Parse {
            path: path.to_owned(),
            message: format!("it is cut short: it has no `{}`", lost.name),
        });
    }
    let later: Vec<&str> = settings::all()
        .iter()
        .filter(|setting| !had(setting))
        .map(|setting| setting.name)
        .collect();
    let defaults = arguments::defaults(Preset::Keras)?.into_iter();
    saved.extend(defaults.filter(|(name, _)| later.contains(&name.as_str())));
    Ok(saved)
}

/// The settings in a run's `config.toml` as they stand there, those of other versions of the program included.
pub fn read_any(path: &Path) -> Result<Table, ConfigError> {
    let content = read_text(path)?;
    content.parse().map_err(|error| ConfigError::Parse {
        path: path.to_owned(),
        message: text::toml_error(&error, &content),
    })
}

/// The settings `config` of a run but for files and folders of the machine that it ran on.
pub fn without_paths(config: &str) -> String {
    const PATHS: [&str; 6] = [
        "compile-cache",
        "data-dir",
        "init-weights",
        "out-dir",
        "plugin",
        "program",
    ];
    let Ok(mut settings) = config.parse::<Table>() else {
        return String::new();
    };
    settings.retain(|name, _| !PATHS.contains(&name));
    settings.to_string()
}

/// The data folder of a run with the settings `config`.
pub fn saved_data_dir(config: &str) -> Option<PathBuf> {
    let settings: Table = config.parse().ok()?;
    Some(PathBuf::from(settings.get("data-dir")?.as_str()?))
}

/// How a run divides and reads its data, as far as its saved settings say so.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct SavedData {
    /// None: it is validated on what the data set has for it.
    pub validation_split: HeldOut,
    pub seed: u64,
    pub skip_bad: bool,
    pub cache_memory: Option<Size>,
}

impl Default for SavedData {
    /// What runs did before there were these settings.
    fn default() -> Self {
        Self {
            validation_split: HeldOut::NONE,
            seed: 0,
            skip_bad: false,
            cache_memory: None,
        }
    }
}

/// How a run with the settings `config` divides and reads its data.
pub fn saved_data(config: &str) -> SavedData {
    toml::from_str(config).unwrap_or_default()
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

/// The settings in `content`, read from the file at `path`; each value is parsed like the option's value.
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

/// A number, a text or a flag as written on a command line.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        // With a point or an exponent: 20.0 is not an integer.
        toml::Value::Float(number) => Some(format!("{number:?}")),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// clap's message, without its advice about the command line.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim);
    let about = lines.take_while(|line| !line.starts_with("For more information"));
    let about: Vec<_> = about.filter(|line| !line.is_empty()).collect();
    about.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::Config;

    /// What is read from the `config.toml` of a run of the quick preset that lacks the settings `lost`.
    fn saved_without(lost: &[&str]) -> Result<Table, ConfigError> {
        let config = Config::preset(Preset::Quick).unwrap().to_toml().unwrap();
        let is_lost = |line: &&str| lost.iter().any(|name| line.starts_with(name));
        let kept: Vec<_> = config.lines().filter(|line| !is_lost(line)).collect();
        assert_eq!(kept.len() + lost.len(), config.lines().count());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, kept.join("\n")).unwrap();
        read_saved(&path)
    }

    #[test]
    fn a_setting_that_came_later_is_what_it_was_before_and_not_what_the_preset_says_now() {
        let quick = saved_without(&[]).unwrap();
        assert_eq!(quick["bn-momentum"].as_float(), Some(0.9));
        let later: Vec<&str> = settings::all()
            .iter()
            .filter(|setting| setting.came_with == Some("lr-schedule"))
            .filter(|setting| setting.default_in(Preset::Keras).is_some())
            .map(|setting| setting.name)
            .collect();
        let old = saved_without(&later).unwrap();
        assert_eq!(old["bn-momentum"].as_float(), Some(0.99));
        assert_eq!(old["optimizer"].as_str(), Some("sgd"));
        assert_eq!(old["lr-schedule"].as_str(), Some("step"));
        assert_eq!(old["whiten"].as_bool(), Some(false));
        // What was there is kept.
        assert_eq!(old["lr"].as_float(), Some(0.1));
    }

    #[test]
    fn a_saved_file_lacks_no_setting_but_those_that_its_program_did_not_have() {
        assert!(saved_without(&[]).is_ok());
        assert!(saved_without(&["cutout", "validation-split"]).is_ok());
        for lost in ["seed", "validation-split"] {
            let fault = saved_without(&[lost]).unwrap_err().to_string();
            assert!(fault.ends_with(&format!("it has no `{lost}`")), "{fault}");
        }
    }

    #[test]
    fn what_leaves_the_machine_names_no_folder_of_it() {
        let config = "data-dir = \"/home/me/data\"\ndepth = 11\nout-dir = \"runs/mine\"\n";
        assert_eq!(without_paths(config), "depth = 11\n");
        assert_eq!(without_paths(""), "");
    }

    #[test]
    fn the_saved_split_of_a_run_is_read_from_its_settings() {
        for (config, expected) in [
            ("validation-split = 400\n", HeldOut::Images(400)),
            ("validation-split = 0.1\nseed = 3\n", HeldOut::Share(0.1)),
            ("depth = 11\n", HeldOut::NONE),
            ("validation-split = -1\n", HeldOut::NONE),
            ("validation-split = \"x\"\n", HeldOut::NONE),
            ("no TOML", HeldOut::NONE),
        ] {
            assert_eq!(saved_data(config).validation_split, expected, "{config}");
        }
        let saved = saved_data("seed = 3\nskip-bad = true\n");
        assert_eq!((saved.seed, saved.skip_bad), (3, true));
    }
}
