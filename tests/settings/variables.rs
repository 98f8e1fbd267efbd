//! Settings from variables of the environment.

use std::ffi::OsStr;
use std::process::{Command, Output};

use resnet_xla::cli::arguments::{self, is_number, is_path};

use crate::options::{errors, name, training_options};
use crate::program::{fail, program};
use crate::ranges::range_of;

/// The program with `args` and one variable of the environment.
fn with_variable(args: &[&str], variable: &str, value: impl AsRef<OsStr>) -> Output {
    let mut command: Command = program(args);
    command.env(variable, value).output().unwrap()
}

#[test]
fn a_wrong_value_in_a_variable_is_refused_with_its_name() {
    for arg in training_options() {
        let variable = match arg.get_env() {
            Some(name) if !is_path(&arg) => name.to_str().unwrap().to_owned(),
            _ => continue,
        };
        let wrong = if is_number(&arg) {
            range_of("", &arg).outside[0]
        } else {
            "nonsense"
        };
        let output = with_variable(&[], &variable, wrong);
        let message = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        for part in [
            &format!("{variable}={wrong} "),
            &format!("--{}", name(&arg)),
        ] {
            assert!(message.contains(part), "no {part} in {message}");
        }
    }
}

#[test]
fn a_conflict_with_a_variable_names_it() {
    let output = with_variable(&["--resume"], "RESNET_XLA_INIT_WEIGHTS", "w.safetensors");
    let message = errors(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    let named = message.contains("RESNET_XLA_INIT_WEIGHTS=w.safetensors");
    assert!(named && message.contains("--resume"), "{message}");
    let flag = fail(&["--resume", "--init-weights", "w.safetensors"], 2);
    assert!(!flag.contains("RESNET_XLA"), "{flag}");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    // The plugin is looked for once all settings are known to be good.
    let mut command = program(&["--plugin", "no/such/plugin.so"]);
    for variable in arguments::variables() {
        command.env(variable, "");
    }
    let output = command.output().unwrap();
    let message = errors(&output);
    assert_eq!(output.status.code(), Some(4), "{message}");
    let mut command = program(&["summary", "--depth", "11"]);
    assert!(
        command
            .env("XLA_PJRT_PLUGIN", "")
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn every_command_warns_once_of_a_misspelt_variable() {
    let misspelt = concat!("RESNET_XLA_", "EPOCH");
    for args in [
        &["summary", "--depth", "11"][..],
        &["man"],
        &["completions", "bash"],
        &["--plugin", "no/such/plugin.so"],
        &["plot", "no/such/run"],
    ] {
        let mut command = program(args);
        command.env(misspelt, "3").env("RESNET_XLA_TEST_HOOK", "1");
        let message = errors(&command.output().unwrap());
        let warning = format!("warning: the environment variable {misspelt} ");
        let warned = message.matches(&warning).count();
        assert_eq!(warned, 1, "{args:?}: {message}");
        assert!(message.contains("did you mean RESNET_XLA_EPOCHS?"));
        assert!(!message.contains("HOOK"), "{message}");
    }
}
