//! Downloads that were damaged, exchanged or interrupted.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::checkout::Checkout;
use crate::ran::{assert_fails_with, run_ok};

#[test]
fn a_damaged_wheel_is_fetched_again_and_leftovers_of_killed_runs_go() {
    let checkout = Checkout::new();
    let wheel = checkout.pin_libclang();
    checkout.serve_pinned_wheel();
    fs::create_dir_all(checkout.path("cache/wheels")).unwrap();
    fs::create_dir_all(checkout.path("cache/partial.killed/folder")).unwrap();
    let packed = fs::read(&wheel).unwrap();
    fs::write(
        checkout.path("cache/wheels/libclang-18.1.1.whl"),
        &packed[..packed.len() / 2],
    )
    .unwrap();

    let output = run_ok(&mut checkout.setup_libclang_only());
    assert!(output.contains("is damaged"), "{output}");
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
    assert_eq!(checkout.work_folders_left(), 0);
    assert_eq!(
        fs::read(checkout.path("cache/wheels/libclang-18.1.1.whl")).unwrap(),
        packed
    );
}

#[test]
fn a_download_with_the_wrong_checksum_is_refused_and_leaves_nothing() {
    let checkout = Checkout::new();
    checkout.replace_pip_download("echo garbage >\"$dest\"/libclang.whl");
    assert_fails_with(
        &checkout.setup_libclang_only().output().unwrap(),
        "wrong checksum: expected c533091d",
    );
    assert_eq!(checkout.work_folders_left(), 0);
    assert_eq!(
        fs::read_dir(checkout.path("cache/wheels")).unwrap().count(),
        0
    );
    assert!(!checkout.path(".xla").exists());
}

#[test]
fn an_interrupted_run_cleans_up_and_the_next_one_succeeds() {
    let checkout = Checkout::new();
    checkout.pin_libclang();
    let survived = checkout.path("survived");
    // Nothing waits so long but a download that was not ended.
    checkout.replace_pip_download(&format!("sleep 300; touch {}", survived.display()));
    let mut setup = checkout
        .setup_libclang_only()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while checkout.downloads() == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    run_ok(Command::new("bash").args(["-c", &format!("kill -TERM {}", setup.id())]));
    // The download holds the pipe open as long as it lives, so this waits for its end too.
    let mut stdout = String::new();
    setup
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut stdout)
        .unwrap();
    assert_eq!(setup.wait().unwrap().code(), Some(143));
    assert_eq!(stdout, "setup: downloading libclang 18.1.1 (25 MB)\n");
    assert!(
        !survived.exists(),
        "the download went on after the interrupt"
    );
    assert_eq!(checkout.work_folders_left(), 0);

    checkout.serve_pinned_wheel();
    run_ok(&mut checkout.setup_libclang_only());
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}
