//! Where the cache may lie.

use std::fs;

use crate::checkout::Checkout;
use crate::ran::{assert_fails_with, run_ok};

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let checkout = Checkout::new();
    fs::write(checkout.path("cache"), "a file where the folder should be").unwrap();
    assert_fails_with(
        &checkout.setup().output().unwrap(),
        "cannot write to the cache",
    );
}

#[test]
fn a_cache_that_the_loader_cannot_name_is_refused() {
    let checkout = Checkout::new();
    for name in ["a:b", "$ORIGIN", "${LIB}"] {
        let cache = checkout.path(name);
        let output = checkout.setup().env("RESNET_XLA_CACHE", &cache).output();
        assert_fails_with(&output.unwrap(), "set RESNET_XLA_CACHE to another folder");
        assert!(!cache.exists());
    }
}

#[test]
fn a_home_folder_with_any_name_holds_the_cache_whatever_a_relative_xdg_cache_home_says() {
    let checkout = Checkout::new();
    checkout.pin_libclang();
    checkout.serve_pinned_wheel();
    let home = checkout.path("it's \"home\", #1 [é] $x");
    let mut setup = checkout.setup_libclang_only();
    setup.env_remove("RESNET_XLA_CACHE").env("HOME", &home);
    run_ok(setup.env("XDG_CACHE_HOME", "relative"));
    let folder = fs::read_link(checkout.path(".xla")).unwrap();
    assert!(
        folder.starts_with(home.join(".cache/resnet-xla")),
        "{folder:?}"
    );
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}
