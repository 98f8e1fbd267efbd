//! Settings of any kind, saved and read back.

use std::path::PathBuf;

use clap::{Arg, Args};
use proptest::prelude::*;
use resnet_xla::cli::args::TrainArgs;
use resnet_xla::cli::arguments::{self, is_path};
use resnet_xla::cli::config::{Config, ConfigError};

use crate::options::{name, resolve_file};

/// What a value of any option is made of.
#[derive(Clone, Debug)]
struct Raw {
    given: bool,
    pick: usize,
    whole: u64,
    real: f64,
    text: String,
}

fn raw() -> impl Strategy<Value = Raw> {
    let real = prop_oneof![any::<f64>(), 0.0..1.0f64, Just(-0.0), Just(f64::EPSILON)];
    (
        any::<bool>(),
        0..60usize,
        any::<u64>(),
        real,
        any::<String>(),
    )
        .prop_map(|(given, pick, whole, real, text)| Raw {
            given,
            pick,
            whole,
            real,
            text,
        })
}

/// A value for `arg`, often one that is refused.
fn value(arg: &Arg, raw: &Raw) -> String {
    let listed = arg.get_possible_values();
    if !listed.is_empty() {
        return listed[raw.pick % listed.len()].get_name().to_owned();
    }
    if is_path(arg) {
        return raw.text.clone();
    }
    if name(arg) == "widths" {
        let [first, second] = [raw.pick, raw.pick + 1].map(|number| 16 * number);
        return format!("{first},{second},{second}");
    }
    if name(arg) == "stage-units" {
        return format!("1,{},1", 1 + raw.pick % 2);
    }
    if name(arg) == "freeze-until" {
        return ["stem", "stage1", "stage3"][raw.pick % 3].to_owned();
    }
    if name(arg) == "lr-drops" {
        let epoch = raw.whole % 100_000;
        return format!("{epoch}:{:?},{}:0.5", raw.real, epoch + 1);
    }
    match raw.pick % 6 {
        0 => (11 + 9 * (raw.whole % 1000)).to_string(),
        1 => u64::MAX.to_string(),
        2 => i64::MAX.to_string(),
        3 => raw.whole.to_string(),
        4 => (raw.whole % 1025).to_string(),
        _ => format!("{:?}", raw.real),
    }
}

/// The options that a `-c` file may hold, but for a program: that has to be there.
fn saved_options() -> Vec<Arg> {
    let command = TrainArgs::augment_args(clap::Command::new("train"));
    let args = command.get_arguments().cloned();
    args.filter(|arg| arg.get_action().takes_values())
        .filter(|arg| !["config", "load-executable", "program"].contains(&name(arg).as_str()))
        .collect()
}

/// `config` as it is saved: with its paths from the root, which mean the same from any folder, and without what is another
/// in each process.
fn as_saved(config: &Config) -> Config {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap();
    Config {
        data_dir: absolute(&config.data_dir),
        out_dir: absolute(&config.out_dir),
        init_weights: config.init_weights.as_ref().map(absolute),
        plugin: config.plugin.as_ref().map(absolute),
        compile_cache: config.compile_cache.as_ref().map(absolute),
        processes: None,
        process: None,
        coordinator: None,
        ..config.clone()
    }
}

proptest! {
    #[test]
    fn whatever_settings_are_accepted_are_saved_and_read_back_bit_for_bit(
        raws in prop::collection::vec(raw(), saved_options().len())
    ) {
        let mut options = Vec::new();
        for (arg, raw) in saved_options().iter().zip(raws) {
            let option = format!("--{}={}", name(arg), value(arg, &raw));
            let accepted = arguments::parse_training(std::slice::from_ref(&option)).is_ok();
            options.extend((raw.given && accepted).then_some(option));
        }
        let of_pictures = ["--dataset=folder", "--dataset=parquet"];
        if !options.iter().any(|option| of_pictures.contains(&option.as_str())) {
            let is_for_pictures = |option: &String| {
                let names = ["--cache-memory=", "--image-size=", "--skip-bad="];
                names.iter().any(|name| option.starts_with(name))
            };
            options.retain(|option| !is_for_pictures(option));
        }
        // Options that nothing reads are refused.
        let model = options.iter().find_map(|option| option.strip_prefix("--model="));
        let model = model.unwrap_or("resnet-v2").to_owned();
        let is_read = |option: &String| match option.split_once('=').unwrap().0 {
            "--depth" => model == "resnet-v2",
            "--widths" => ["fast", "fast-deep", "custom", "custom-v1"].contains(&model.as_str()),
            "--stage-units" | "--block" => ["custom", "custom-v1"].contains(&model.as_str()),
            _ => true,
        };
        options.retain(is_read);
        if !options.iter().any(|option| option == "--optimizer=muon") {
            options.retain(|option| !option.starts_with("--rest-lr="));
        }
        let args = arguments::parse_training(&options).unwrap();
        let config = match Config::resolve(&args) {
            Err(ConfigError::Split { .. }) => return Err(TestCaseError::reject("split")),
            Err(ConfigError::Drops { .. }) => return Err(TestCaseError::reject("drops")),
            Err(ConfigError::ImageSide { .. }) => return Err(TestCaseError::reject("image side")),
            // Of a preset that names another model.
            Err(ConfigError::Unread { .. }) => return Err(TestCaseError::reject("unread")),
            Err(ConfigError::Whiten { .. }) => return Err(TestCaseError::reject("whiten")),
            Err(ConfigError::Depth(_)) => return Err(TestCaseError::reject("no such network")),
            Err(ConfigError::TwoMixes) => return Err(TestCaseError::reject("two mixes")),
            Err(ConfigError::Warmup { .. }) => return Err(TestCaseError::reject("warm-up")),
            other => other.unwrap(),
        };
        let saved = config.to_toml().unwrap();
        let read = resolve_file(&saved).unwrap();
        prop_assert_eq!(&read, &as_saved(&config));
        prop_assert_eq!(read.to_toml().unwrap(), saved);
        for (read, config) in [
            (read.lr, config.lr),
            (read.momentum, config.momentum),
            (read.l2, config.l2),
        ] {
            prop_assert_eq!(read.to_bits(), config.to_bits());
        }
    }
}
