//! The user's settings of pip: those that count, and those that do not.

use std::fs;

use crate::checkout::Checkout;
use crate::ran::run_ok;

#[test]
fn settings_of_pip_that_would_choose_what_is_downloaded_do_not_count_and_those_that_reach_it_do() {
    for in_file in [false, true] {
        let checkout = Checkout::new();
        checkout.mirror_libclang();
        fs::write(checkout.path("constraint.txt"), "libclang==16.0.6\n").unwrap();
        let elsewhere = checkout.path("elsewhere").display().to_string();
        let constraint = checkout.path("constraint.txt").display().to_string();
        let settings = [
            // There is no other place to download from.
            ("no-index", "true"),
            ("find-links", "mirror"),
            ("constraint", &constraint),
            ("require-hashes", "true"),
            ("no-binary", ":all:"),
            ("platform", "win32"),
            ("abi", "cp27"),
            ("dest", &elsewhere),
            ("log", "/no/such/folder/log"),
            ("require-virtualenv", "true"),
            ("user", "true"),
            ("no-input", "true"),
            ("quiet", "3"),
        ];
        let mut setup = checkout.setup_libclang_only();
        setup.current_dir(checkout.folder.path());
        if in_file {
            let lines = settings.map(|(name, value)| format!("{name} = {value}\n"));
            let text = format!("[global]\n{}", lines.concat());
            fs::write(checkout.path("pip.conf"), text).unwrap();
            setup.env("PIP_CONFIG_FILE", "pip.conf");
        } else {
            for (name, value) in settings {
                let name = format!("PIP_{}", name.to_uppercase().replace('-', "_"));
                setup.env(name, value);
            }
        }
        run_ok(&mut setup);
        assert_eq!(checkout.linked_libclang(), "libclang for a test");
        assert!(!checkout.path("elsewhere").exists());
    }
}

#[test]
fn a_download_that_fails_names_the_settings_that_count() {
    let checkout = Checkout::new();
    checkout.mirror_libclang();
    fs::create_dir(checkout.path("empty")).unwrap();
    let output = checkout
        .setup_libclang_only()
        .env("PIP_NO_INDEX", "1")
        .env("PIP_FIND_LINKS", checkout.path("empty"))
        .env("PIP_PREFER_BINARY", "1")
        .env("no_proxy", "example.org")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    // The machine's own settings may come after these.
    let named = "of your settings, these count: no_proxy PIP_FIND_LINKS PIP_NO_INDEX";
    assert!(message.contains(named), "{message}");
    assert!(!message.contains("PIP_PREFER_BINARY"), "{message}");
}

#[test]
fn a_file_of_settings_that_pip_cannot_read_is_named_and_does_not_count() {
    let checkout = Checkout::new();
    checkout.mirror_libclang();
    let file = checkout.path("pip.conf");
    fs::write(&file, "no section\n").unwrap();
    let output = run_ok(
        checkout
            .setup_libclang_only()
            .env("PIP_CONFIG_FILE", &file)
            .env("PIP_NO_INDEX", "1")
            .env("PIP_FIND_LINKS", checkout.path("mirror")),
    );
    let file = file.display().to_string();
    assert!(output.contains(&file), "{output}");
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}
