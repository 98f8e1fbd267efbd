//! Settings of the shell and of the tools that it calls.

use std::fs;

use crate::checkout::Checkout;
use crate::ran::run_ok;

#[test]
fn settings_of_the_shell_and_its_tools_do_not_count() {
    let checkout = Checkout::new();
    checkout.pin_libclang();
    checkout.serve_pinned_wheel();
    let start_up = checkout.path("start_up.sh");
    fs::write(
        &start_up,
        "set -f; shopt -s nullglob; alias cd=false; mkdir() { false; }",
    )
    .unwrap();
    let mut setup = checkout.setup_libclang_only();
    for (name, value) in [
        ("SHELLOPTS", "noclobber:noglob:physical"),
        ("BASHOPTS", "failglob:nocasematch:xpg_echo"),
        ("BASH_FUNC_readlink%%", "() { false; }"),
        ("POSIXLY_CORRECT", "1"),
        ("IFS", "a/"),
        ("GREP_OPTIONS", "--invert-match"),
        ("GREP_COLORS", "nonsense"),
        ("BLOCK_SIZE", "1"),
        ("LC_ALL", "xx_XX.nonsense"),
        ("TMPDIR", "/no/such/folder"),
        ("XDG_CACHE_HOME", "relative"),
        ("CDPATH", "/"),
    ] {
        setup.env(name, value);
    }
    run_ok(setup.env("BASH_ENV", &start_up).env("ENV", &start_up));
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}
