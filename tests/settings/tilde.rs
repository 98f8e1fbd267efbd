//! `~` in paths.

use std::fs;
use std::path::{Path, PathBuf};

use resnet_xla::cli::arguments::{self, is_path};

use crate::options::{errors, options, resolve_file, words};
use crate::program::program;

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
