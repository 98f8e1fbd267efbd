//! Settings: every number in its range, every path, and every source they come from.

mod program;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::{Arg, Args};
use program::runs::quick_run;
use program::{fail, program, succeed, text};
use proptest::prelude::*;
use resnet_xla::cli::args::TrainArgs;
use resnet_xla::cli::arguments::{self, is_number, is_path};
use resnet_xla::cli::config::{Config, ConfigError};
use resnet_xla::cli::settings;

/// A number of the command line: where it stands, the ends of its range, and what lies just outside.
struct Number {
    commands: &'static str,
    option: &'static str,
    ends: [&'static str; 2],
    outside: &'static [&'static str],
}

const fn number(
    commands: &'static str,
    option: &'static str,
    ends: [&'static str; 2],
    outside: &'static [&'static str],
) -> Number {
    Number {
        commands,
        option,
        ends,
        outside,
    }
}

/// The program without a command, and `train`.
const TRAIN: &str = " train";

const NUMBERS: &[Number] = &[
    number(
        " train summary bench compile",
        "depth",
        ["11", "10001"],
        &["2", "12", "10002", "10010"],
    ),
    number(TRAIN, "epochs", ["1", "100000"], &["0", "100001"]),
    number(
        " train eval bench",
        "batch-size",
        ["1", "65536"],
        &["0", "65537", "4294967295"],
    ),
    number(
        TRAIN,
        "lr",
        ["1e-30", "1e30"],
        &["0", "-0.1", "1e-31", "1.1e30"],
    ),
    number(
        TRAIN,
        "warmup",
        ["0", "99999999999999"],
        &["100000000000000", "1.5"],
    ),
    number(
        TRAIN,
        "momentum",
        ["0.0", "0.999999"],
        &["-1e-9", "0.99999999", "1"],
    ),
    number(TRAIN, "l2", ["0.0", "1e30"], &["-1e-9", "1.1e30"]),
    number(
        TRAIN,
        "seed",
        ["0", "9223372036854775807"],
        &["9223372036854775808", "18446744073709551615"],
    ),
    number(
        TRAIN,
        "steps-per-epoch",
        ["1", "1000000000"],
        &["0", "1000000001"],
    ),
    number(
        TRAIN,
        "max-steps",
        ["1", "100000000000000"],
        &["0", "100000000000001"],
    ),
    number(
        TRAIN,
        "eval-steps",
        ["1", "1000000000"],
        &["0", "1000000001"],
    ),
    number(
        TRAIN,
        "checkpoint-every",
        ["1", "1000000000"],
        &["0", "1000000001"],
    ),
    number(TRAIN, "keep", ["2", "1000000"], &["0", "1", "1000001"]),
    number(
        " train eval predict report bench doctor",
        "replicas",
        ["1", "1024"],
        &["0", "1025", "every"],
    ),
    number("eval", "steps", ["1", "1000000000"], &["0", "1000000001"]),
    number("predict", "index", ["0", "9999"], &["10000"]),
    number("bench", "epochs", ["1", "1000000"], &["0", "1000001"]),
    number("bench", "steps", ["1", "1000000"], &["0", "1000001"]),
    number("bench", "warmup", ["1", "1000000"], &["0", "1000001"]),
    number("compile", "batch-per-chip", ["1", "65536"], &["0", "65537"]),
];

/// What no number of the program is.
const NEVER: [&str; 9] = [
    "-1",
    "99999999999999999999999999999999999999999",
    "1e400",
    "NaN",
    "inf",
    "-inf",
    "0x10",
    "x",
    "",
];

/// Values that are neither numbers nor paths nor words of a list; each has tests of its own.
const OTHERS: [&str; 3] = ["lr-drops", "target", "command"];

/// The options of every command that take a value, with the command's name; "" is the program without one.
fn options() -> Vec<(String, Arg)> {
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

fn name(arg: &Arg) -> String {
    arg.get_long().unwrap_or(arg.get_id().as_str()).to_owned()
}

/// A command line of `command` with `value` for `arg`, and with what the command asks for besides.
fn words(command: &str, arg: &Arg, value: &OsStr) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["resnet-xla".into()];
    words.extend((!command.is_empty()).then(|| command.into()));
    let besides: &[&str] = match (command, name(arg).as_str()) {
        ("compile", _) => &["--target=cpu"],
        ("bench", "epochs") => &["--input"],
        ("export", "checkpoint") => &["--out=x.safetensors"],
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

fn range_of(command: &str, arg: &Arg) -> &'static Number {
    let name = name(arg);
    NUMBERS
        .iter()
        .find(|number| number.option == name && number.commands.split(' ').any(|c| c == command))
        .unwrap_or_else(|| panic!("state the range of --{name} of `{command}` in NUMBERS"))
}

#[test]
fn every_number_of_every_command_is_held_to_its_range() {
    let mut seen = 0;
    for (command, arg) in options() {
        let option = name(&arg);
        if !is_number(&arg) {
            let known = is_path(&arg)
                || !arg.get_possible_values().is_empty()
                || OTHERS.contains(&option.as_str());
            assert!(known, "what are the values of --{option} of `{command}`?");
            continue;
        }
        seen += 1;
        let number = range_of(&command, &arg);
        for end in number.ends {
            let words = words(&command, &arg, end.as_ref());
            let parsed = arguments::parse(&words);
            assert!(parsed.is_ok(), "{words:?}: {}", parsed.unwrap_err());
        }
        for wrong in number.outside.iter().chain(&NEVER) {
            let words = words(&command, &arg, wrong.as_ref());
            let error = arguments::parse(&words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
            let message = error.to_string();
            let range = format!("from {} to {}", number.ends[0], number.ends[1]);
            for part in [&format!("--{option}"), &range, &format!("'{wrong}'")] {
                assert!(message.contains(part), "no {part} in {message}");
            }
        }
    }
    assert!(seen > NUMBERS.len(), "{seen}");
}

#[test]
fn a_negative_number_behind_a_space_is_a_number_and_no_option() {
    for (command, arg) in options().into_iter().filter(|(_, arg)| is_number(arg)) {
        let mut words = vec!["resnet-xla".into()];
        words.extend((!command.is_empty()).then(|| OsString::from(&command)));
        words.extend([format!("--{}", name(&arg)).into(), "-1".into()]);
        let message = arguments::parse(&words).unwrap_err().to_string();
        let range = range_of(&command, &arg).ends.join(" to ");
        assert!(message.contains(&range), "{words:?}: {message}");
    }
}

/// The options of training.
fn training_options() -> Vec<Arg> {
    let options = options().into_iter();
    let own = options.filter(|(command, _)| command.is_empty());
    own.map(|(_, arg)| arg).collect()
}

/// The settings in a `-c` file with the content `toml`.
fn resolve_file(toml: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    fs::write(&path, toml).unwrap();
    let option = format!("--config={}", text(&path));
    Config::resolve(&arguments::parse_training(&[option]).unwrap())
}

#[test]
fn a_number_out_of_range_in_a_file_is_refused_with_file_option_and_range() {
    for arg in training_options().iter().filter(|arg| is_number(arg)) {
        let (option, number) = (name(arg), range_of("", arg));
        for wrong in number.outside {
            let quoted = format!("{option} = \"{wrong}\"\n");
            let bare = format!("{option} = {wrong}\n");
            for toml in [quoted, bare] {
                let message = resolve_file(&toml).unwrap_err().to_string();
                assert!(message.contains("run.toml"), "{message}");
                // TOML itself has no such integers, nor bare words.
                if !message.contains(": line 1, column ") {
                    let range = number.ends.join(" to ");
                    for part in [&format!("--{option}"), &range] {
                        assert!(message.contains(part), "no {part} in {message}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_no_plain_value_in_a_file_is_refused_with_its_key() {
    for toml in ["depth = [20]", "lr = 1979-05-27", "[seed]\nx = 1"] {
        let message = resolve_file(toml).unwrap_err().to_string();
        assert!(message.contains("expected a number, text"), "{message}");
    }
    let message = resolve_file("depth = 20.0").unwrap_err().to_string();
    assert!(message.contains("20.0"), "{message}");
}

/// The program with `args` and one variable of the environment.
fn with_variable(args: &[&str], variable: &str, value: impl AsRef<OsStr>) -> Output {
    let mut command: Command = program(args);
    command.env(variable, value).output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
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
        let warning = format!("warning: the variable {misspelt} ");
        let warned = message.matches(&warning).count();
        assert_eq!(warned, 1, "{args:?}: {message}");
        assert!(message.contains("did you mean RESNET_XLA_EPOCHS?"));
        assert!(!message.contains("HOOK"), "{message}");
    }
}

#[test]
fn a_leading_tilde_is_the_home_folder_in_every_path_of_every_command() {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else {
        println!("skipped: HOME is not set");
        return;
    };
    let mut seen = 0;
    for (command, arg) in options().into_iter().filter(|(_, arg)| is_path(arg)) {
        let value = |path: &str| {
            let words = words(&command, &arg, path.as_ref());
            let matches = arguments::command().try_get_matches_from(words)?;
            let own = match matches.subcommand() {
                Some((_, own)) => own,
                None => &matches,
            };
            let mut paths = own.get_many::<PathBuf>(arg.get_id().as_str()).unwrap();
            Ok::<_, clap::Error>(paths.next().unwrap().clone())
        };
        assert_eq!(value("~/x/y").unwrap(), home.join("x/y"), "{command}");
        assert_eq!(value("~").unwrap(), home, "{command}");
        assert_eq!(value("./~").unwrap(), Path::new("./~"), "{command}");
        let refused = value("~ada/x").unwrap_err().to_string();
        assert!(refused.contains("./~ada/x"), "{refused}");
        seen += 1;
    }
    assert!(seen > 15, "{seen}");
    let config = resolve_file("data-dir = \"~/cifar\"\nout-dir = \"./~\"").unwrap();
    assert_eq!(config.data_dir, home.join("cifar"));
    assert_eq!(config.out_dir, Path::new("./~"));
}

#[test]
fn a_tilde_in_a_flag_or_a_variable_makes_no_folder_of_that_name() {
    let folder = tempfile::tempdir().unwrap();
    let (home, here) = (folder.path().join("home"), folder.path().join("here"));
    fs::create_dir_all(&here).unwrap();
    let fetch = ["fetch", "--dataset", "sample"];
    for (args, variable, made) in [
        (&["--data-dir=~/flag"][..], "", "flag"),
        (&[], "~/variable", "variable"),
    ] {
        let mut command = program(&[&fetch, args].concat());
        command.env("HOME", &home).current_dir(&here);
        let output = command.env("RESNET_XLA_DATA_DIR", variable).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        assert!(home.join(made).is_dir());
    }
    assert_eq!(fs::read_dir(&here).unwrap().count(), 0);
}

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

/// The options that a `-c` file may hold.
fn saved_options() -> Vec<Arg> {
    let command = TrainArgs::augment_args(clap::Command::new("train"));
    let args = command.get_arguments().cloned();
    args.filter(|arg| arg.get_action().takes_values() && name(arg) != "config")
        .collect()
}

/// `config` with its paths from the root, as they are saved: they mean the same from any folder.
fn with_absolute_paths(config: &Config) -> Config {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap();
    Config {
        data_dir: absolute(&config.data_dir),
        out_dir: absolute(&config.out_dir),
        init_weights: config.init_weights.as_ref().map(absolute),
        plugin: config.plugin.as_ref().map(absolute),
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
        let args = arguments::parse_training(&options).unwrap();
        let config = match Config::resolve(&args) {
            Err(ConfigError::Split { .. }) => return Err(TestCaseError::reject("split")),
            Err(ConfigError::Drops { .. }) => return Err(TestCaseError::reject("drops")),
            Err(ConfigError::Warmup { .. }) => return Err(TestCaseError::reject("warm-up")),
            other => other.unwrap(),
        };
        let saved = config.to_toml().unwrap();
        let read = resolve_file(&saved).unwrap();
        prop_assert_eq!(&read, &with_absolute_paths(&config));
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

/// A name that is not UTF-8.
fn not_text(ending: &str) -> OsString {
    let mut name = OsStr::from_bytes(b"caf\xe9").to_owned();
    name.push(ending);
    name
}

#[test]
fn a_path_that_is_not_utf8_is_refused_where_it_would_be_saved() {
    let folder = tempfile::tempdir().unwrap();
    for option in ["out-dir", "data-dir", "init-weights", "plugin"] {
        let variable = settings::variable(option);
        let mut flag = OsString::from(format!("--{option}="));
        flag.push(not_text(""));
        let mut by_flag = program(&[]);
        by_flag.arg(flag);
        let mut by_variable = program(&[]);
        by_variable.env(&variable, not_text(""));
        for mut command in [by_flag, by_variable] {
            let output = command.current_dir(folder.path()).output().unwrap();
            let message = errors(&output);
            assert_eq!(output.status.code(), Some(2), "{message}");
            for part in [&format!("--{option}"), &variable, "not UTF-8"] {
                assert!(message.contains(part), "no {part} in {message}");
            }
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_path_that_is_not_utf8_works_where_it_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("run");
    let config = folder.path().join(not_text(".toml"));
    fs::write(&config, "preset = \"quick\"\nmax-steps = 1\neval-steps = 1").unwrap();
    let run = |args: &[&OsStr]| {
        let mut command = program(&[]);
        let output = command.args(args).current_dir(folder.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{args:?}: {}", errors(&output));
    };
    let os = OsStr::new;
    let cpu = [os("--device"), os("cpu")];
    let train = [
        os("-c"),
        config.as_os_str(),
        os("--out-dir"),
        first.as_os_str(),
    ];
    run(&[&train[..], &cpu].concat());

    let moved = folder.path().join(not_text(""));
    fs::rename(&first, &moved).unwrap();
    let from = [os("--checkpoint"), moved.as_os_str()];
    let names = ["l.npy", "p.png", "w.safetensors", "r.html", "plots", "d"];
    let outs = names.map(|ending| folder.path().join(not_text(ending)));
    let [logits, picture, weights, page, plots, data] = outs.each_ref().map(|p| p.as_os_str());
    let eval = [os("eval"), os("--steps=1"), os("--dump-logits"), logits];
    run(&[&eval[..], &from, &cpu].concat());
    let predict = [os("predict"), os("--out"), picture];
    run(&[&predict[..], &from, &cpu].concat());
    run(&[&[os("export"), os("--out"), weights][..], &from].concat());
    run(&[&[os("report"), os("--out"), page][..], &from, &cpu].concat());
    run(&[os("plot"), moved.as_os_str(), os("--out-dir"), plots]);
    run(&[os("fetch"), os("--dataset=sample"), os("--data-dir"), data]);
    for out in &outs {
        assert!(out.exists(), "{}", out.display());
    }
    // Its own picture, under a name that is not UTF-8, as input.
    let predict = [os("predict"), picture, os("--out=p.png")];
    run(&[&predict[..], &from, &cpu].concat());
}

/// All that is under `root`, by path; files with their content.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path.clone(), fs::read(&path).ok());
        }
    }
    found
}

#[test]
fn a_start_that_fails_leaves_the_folder_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.safetensors");
    fs::write(&garbage, "garbage").unwrap();
    let damaged = folder.path().join("damaged");
    fs::create_dir(&damaged).unwrap();
    for name in (1..=5).map(|index| format!("data_batch_{index}")) {
        fs::write(damaged.join(name + ".bin"), "damaged").unwrap();
    }
    fs::write(damaged.join("test_batch.bin"), "damaged").unwrap();
    let runs = folder.path().join("runs");
    fs::create_dir_all(runs.join("noted")).unwrap();
    fs::write(runs.join("noted/notes.txt"), "mine").unwrap();
    let old = runs.join("old");
    fs::create_dir_all(old.join("checkpoints")).unwrap();
    fs::write(old.join("config.toml"), "preset = \"quick\"").unwrap();
    fs::write(old.join("checkpoints/step-00000001.safetensors"), "old").unwrap();
    let before = snapshot(&runs);

    let missing = folder.path().join("missing.safetensors");
    for (args, code) in [
        (&["--seed", "9223372036854775808"][..], 2),
        (&["--depth", "12"], 2),
        (&["--replicas", "3", "--batch-size", "8"], 2),
        (&["--init-weights", text(&missing)], 3),
        (&["--init-weights", text(&garbage)], 3),
        (&["--dataset", "cifar10", "--data-dir", text(&damaged)], 3),
        (&["--dataset", "cifar10", "--data-dir", text(&garbage)], 3),
        (&["--plugin", "no/such/plugin.so"], 4),
    ] {
        for (name, more) in [("new", ""), ("noted", ""), ("old", "--overwrite")] {
            let out = runs.join(name);
            fail(&[quick_run(&out, more), args.to_vec()].concat(), code);
            assert!(snapshot(&runs) == before, "{name}: {args:?}");
        }
    }
}

#[test]
fn weights_that_overwriting_would_remove_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(&quick_run(&run, "--max-steps 1 --eval-steps 1"));
    let before = snapshot(&run);
    let weights = run.join("checkpoints/step-00000001.safetensors");
    let args = quick_run(&run, "--overwrite --init-weights");
    let message = fail(&[args, vec![text(&weights)]].concat(), 2);
    assert!(message.contains("step-00000001.safetensors"), "{message}");
    let lock = run.join("run.lock");
    let mut after = snapshot(&run);
    after.insert(lock.clone(), before[&lock].clone());
    assert!(after == before);
}
