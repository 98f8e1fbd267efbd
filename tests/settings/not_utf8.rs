//! Paths that are not UTF-8.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;

use resnet_xla::cli::settings;

use crate::options::errors;
use crate::program::program;

/// A name that is not UTF-8.
fn not_text(ending: &str) -> OsString {
    let mut name = OsStr::from_bytes(b"caf\xe9").to_owned();
    name.push(ending);
    name
}

#[test]
fn a_path_that_is_not_utf8_is_refused_where_it_would_be_saved() {
    let folder = tempfile::tempdir().unwrap();
    for option in [
        "out-dir",
        "data-dir",
        "init-weights",
        "plugin",
        "program",
        "compile-cache",
    ] {
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
