//! Two at once, with locks and without.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::checkout::Checkout;
use crate::ran::run_ok;

#[test]
fn two_runs_at_once_download_once_and_a_later_one_needs_no_python() {
    let checkout = Checkout::new();
    let wheel = checkout.pin_libclang();
    let go = checkout.path("go");
    checkout.replace_pip_download(&format!(
        "while [ ! -e {} ]; do sleep 0.02; done; cp {} \"$dest\"/",
        go.display(),
        wheel.display()
    ));
    let mut first = checkout.setup_libclang_only().spawn().unwrap();
    while checkout.downloads() == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut second = checkout.setup_libclang_only();
    let mut second = second.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(second.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("waiting for another setup")));
    fs::write(go, "").unwrap();
    // Read to its end, so that it is not cut off in the middle of a line.
    lines.for_each(drop);
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
    assert_eq!(checkout.downloads(), 1);
    assert_eq!(checkout.linked_libclang(), "libclang for a test");

    checkout.remove_tool("python3");
    run_ok(&mut checkout.setup_libclang_only());
}

#[test]
fn a_cache_without_locks_is_warned_of() {
    let checkout = Checkout::new();
    checkout.pin_libclang();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/poor_file_system.c");
    let shim = checkout.path("shim.so");
    run_ok(
        Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&shim, &source]),
    );
    // ENOLCK, ENOSYS and EOPNOTSUPP.
    for number in ["37", "38", "95"] {
        checkout.serve_pinned_wheel();
        let _ = fs::remove_dir_all(checkout.path("cache"));
        let mut setup = checkout.setup_libclang_only();
        setup.env("LD_PRELOAD", &shim).env("FLOCK_ERROR", number);
        let output = run_ok(&mut setup);
        assert!(output.contains("has no locks"), "{output}");
        assert_eq!(checkout.linked_libclang(), "libclang for a test");
    }
}

#[test]
fn a_setup_that_was_quicker_where_there_are_no_locks_is_no_error() {
    let checkout = Checkout::new();
    checkout.pin_libclang();
    checkout.remove_tool("flock");
    // While this one downloads, another one begins and finishes.
    checkout.replace_pip_download(
        "if mkdir \"${0%/*}/other\"; then \"${0%/*}/../setup\" >&2; fi\n\
         cp \"${0%/*}/../registry.whl\" \"$dest\"/",
    );
    run_ok(&mut checkout.setup_libclang_only());
    assert_eq!(checkout.downloads(), 2);
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}
