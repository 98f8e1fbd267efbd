//! How it may be called, and from where.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::checkout::{Checkout, find_in_path};
use crate::ran::run_ok;

#[test]
fn help_prints_the_usage() {
    let output = run_ok(Checkout::new().setup().arg("--help"));
    assert!(output.starts_with("Usage: ./setup"), "{output}");
}

#[test]
fn an_unknown_argument_is_a_usage_error() {
    let output = Checkout::new().setup().arg("tpuu").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "setup: unknown argument 'tpuu'; see ./setup --help\n"
    );
}

#[test]
fn any_way_of_calling_it_works() {
    for call in [
        // From the folder above, which `cd` would find by CDPATH and print.
        "cd ..; CDPATH=$PWD exec \"${OLDPWD##*/}/setup\"",
        "exec bash setup",
        "exec sh setup",
        "umask 777; exec ./setup",
        "ln -s \"$PWD/setup\" bin/setup; cd /; exec setup",
        "mkdir links; ln -s ../setup links/first; ln -s first links/second; cd bin; exec ../links/second",
    ] {
        let checkout = Checkout::new();
        checkout.pin_libclang();
        checkout.serve_pinned_wheel();
        symlink(find_in_path("sh"), checkout.path("bin/sh")).unwrap();
        let setup = checkout.setup_libclang_only();
        let mut shell = Command::new("bash");
        shell.args(["-c", call]).current_dir(checkout.folder.path());
        shell.env_clear();
        for (name, value) in setup.get_envs() {
            shell.env(name, value.unwrap());
        }
        run_ok(&mut shell);
        assert_eq!(checkout.linked_libclang(), "libclang for a test", "{call}");
    }
}
