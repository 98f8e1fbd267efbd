//! The range of every number of the command line, stated once more.

use clap::Arg;

use crate::options::name;

/// A number of the command line: where it stands, the ends of its range, and what lies just outside.
pub struct Number {
    commands: &'static str,
    pub option: &'static str,
    pub ends: [&'static str; 2],
    pub outside: &'static [&'static str],
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

pub const NUMBERS: &[Number] = &[
    number(
        " train summary import bench compile",
        "depth",
        ["11", "10001"],
        &["2", "12", "10002", "10010"],
    ),
    number(" export", "replicas", ["1", "1024"], &["0", "1025"]),
    number(TRAIN, "processes", ["1", "1024"], &["0", "1025"]),
    number(TRAIN, "process", ["0", "1023"], &["-1", "1024"]),
    number(TRAIN, "epochs", ["1", "100000"], &["0", "100001"]),
    number(
        " train eval export bench",
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
    number(TRAIN, "cutout", ["0", "512"], &["513"]),
    number(TRAIN, "mixup", ["0.0", "100.0"], &["-0.1", "101"]),
    number(TRAIN, "cutmix", ["0.0", "100.0"], &["-0.1", "101"]),
    number(TRAIN, "ema", ["0.0", "0.999999"], &["-0.1", "1"]),
    number(TRAIN, "weight-decay", ["0.0", "1e30"], &["-0.1", "1.1e30"]),
    number(
        TRAIN,
        "validation-split",
        ["0", "999999999"],
        &["1000000000"],
    ),
    number(
        " train summary import bench compile",
        "image-size",
        ["4", "512"],
        &["3", "513"],
    ),
    number(
        "summary bench compile",
        "classes",
        ["1", "65535"],
        &["0", "65536"],
    ),
    number(TRAIN, "bn-momentum", ["0.0", "0.999999"], &["-0.1", "1"]),
    number(TRAIN, "rest-lr", ["0.0", "1000000.0"], &["-0.1", "1.1e6"]),
    number(TRAIN, "label-smoothing", ["0.0", "0.999"], &["-0.1", "1"]),
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
    number(
        TRAIN,
        "log-every",
        ["1", "1000000000"],
        &["0", "1000000001"],
    ),
    number(TRAIN, "profile", ["1", "10000"], &["0", "10001"]),
    number(TRAIN, "keep", ["2", "1000000"], &["0", "1", "1000001"]),
    number(
        " train eval predict report bench doctor",
        "replicas",
        ["1", "1024"],
        &["0", "1025", "every"],
    ),
    number("eval", "steps", ["1", "1000000000"], &["0", "1000000001"]),
    number("predict", "index", ["0", "999999999"], &["1000000000"]),
    number("bench", "epochs", ["1", "1000000"], &["0", "1000001"]),
    number("bench", "steps", ["1", "1000000"], &["0", "1000001"]),
    number("bench", "warmup", ["1", "1000000"], &["0", "1000001"]),
    number("compile", "batch-per-chip", ["1", "65536"], &["0", "65537"]),
];

/// What no number of the program is.
pub const NEVER: [&str; 9] = [
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

pub fn range_of(command: &str, arg: &Arg) -> &'static Number {
    let name = name(arg);
    NUMBERS
        .iter()
        .find(|number| number.option == name && number.commands.split(' ').any(|c| c == command))
        .unwrap_or_else(|| panic!("state the range of --{name} of `{command}` in NUMBERS"))
}
