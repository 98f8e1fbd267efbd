//! The options of every command, and settings given in each way.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::process::Output;

use clap::Arg;
use resnet_xla::cli::arguments;
use resnet_xla::cli::config::{Config, ConfigError};

use crate::program::text;

/// The options of every command that take a value, with the command's name; "" is the program without one.
pub fn options() -> Vec<(String, Arg)> {
    let mut program = arguments::command();
    program.build();
    let mut commands: Vec<_> = program.get_subcommands().cloned().collect();
    commands.retain(|command| command.get_name() != "help");
    let with_name = |name: &str, command: &clap::Command| {
        let takes_values = |arg: &&Arg| arg.get_action().takes_values();
        let args = command.get_arguments().filter(takes_values).cloned();
        args.map(|arg| (name.to_owned(), arg)).collect::<Vec<_>>()
    };
    let own = with_name("", &program);
    let others = commands.iter().flat_map(|c| with_name(c.get_name(), c));
    own.into_iter().chain(others).collect()
}

pub fn name(arg: &Arg) -> String {
    arg.get_long().unwrap_or(arg.get_id().as_str()).to_owned()
}

/// A command line of `command` with `value` for `arg`, and with what the command asks for besides.
pub fn words(command: &str, arg: &Arg, value: &OsStr) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["resnet-xla".into()];
    words.extend((!command.is_empty()).then(|| command.into()));
    let besides: &[&str] = match (command, name(arg).as_str()) {
        ("compile", _) => &["--target=cpu"],
        ("bench", "epochs" | "pictures") => &["--input"],
        ("export", "checkpoint" | "batch-size") => &["--out=x.safetensors"],
        ("export", "program") => &["--on=tpu"],
        ("export", "settings" | "replicas") => &["--program=x", "--on=tpu"],
        ("import", "from") => &["--out-dir=x"],
        ("import", "out-dir") => &["--from=x"],
        ("import", _) => &["--from=x", "--out-dir=x"],
        ("plot", "out-dir") => &["run"],
        _ => &[],
    };
    words.extend(besides.iter().map(OsString::from));
    match arg.get_long() {
        Some(long) => {
            let mut word = OsString::from(format!("--{long}="));
            word.push(value);
            words.push(word);
        }
        None => words.push(value.into()),
    }
    words
}

/// The options of training.
pub fn training_options() -> Vec<Arg> {
    let options = options().into_iter();
    let own = options.filter(|(command, _)| command.is_empty());
    own.map(|(_, arg)| arg).collect()
}

/// The settings in a `-c` file with the content `toml`.
pub fn resolve_file(toml: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    fs::write(&path, toml).unwrap();
    let option = format!("--config={}", text(&path));
    Config::resolve(&arguments::parse_training(&[option]).unwrap())
}

pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
