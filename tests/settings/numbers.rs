//! Every number is held to its range, on the command line and in a file.

use std::ffi::OsString;

use resnet_xla::cli::arguments::{self, is_number, is_path};

use crate::options::{name, options, resolve_file, training_options, words};
use crate::ranges::{NEVER, NUMBERS, range_of};

/// Values that are neither numbers nor paths nor words of a list; each has tests of its own.
const OTHERS: [&str; 10] = [
    "cache-memory",
    "command",
    "coordinator",
    "freeze-until",
    "lr-drops",
    "mean",
    "stage-units",
    "std",
    "target",
    "widths",
];

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
