//! Python and pip: missing, broken, or with variables that lead them elsewhere.

use std::fs;

use crate::checkout::Checkout;
use crate::ran::{assert_fails_with, run_ok};

#[test]
fn a_missing_python_is_named() {
    let checkout = Checkout::new();
    checkout.remove_tool("python3");
    assert_fails_with(
        &checkout.setup().output().unwrap(),
        "no python3; install Python 3 with pip",
    );
}

#[test]
fn a_missing_pip_is_named() {
    let checkout = Checkout::new();
    checkout.replace_python_module("pip", "echo 'python3: No module named pip' >&2; exit 1");
    assert_fails_with(&checkout.setup().output().unwrap(), "python3 has no pip");
}

#[test]
fn a_broken_python_is_reported_with_what_it_printed() {
    let checkout = Checkout::new();
    checkout.replace_tool("python3", "echo 'libpython3.so: cannot open' >&2; exit 127");
    assert_fails_with(
        &checkout.setup().output().unwrap(),
        "python3 does not work: it ended with 127 and printed: libpython3.so: cannot open",
    );
    checkout.replace_tool("python3", "exit 0");
    assert_fails_with(
        &checkout.setup().output().unwrap(),
        "python3 does not work: it ended with 0 and printed: ",
    );
}

#[test]
fn a_broken_pip_is_reported_with_what_it_printed() {
    let checkout = Checkout::new();
    let script = "printf 'Traceback:\\nImportError: no ssl in here\\n' >&2; exit 1";
    checkout.replace_python_module("pip", script);
    assert_fails_with(
        &checkout.setup().output().unwrap(),
        "python3 does not work; it printed: ImportError: no ssl in here",
    );
}

#[test]
fn a_pip_that_only_pythonpath_leads_to_is_found() {
    let checkout = Checkout::new();
    checkout.pin_libclang();
    checkout.serve_pinned_wheel();
    // A Python whose pip is there as long as PYTHONPATH is.
    let python = fs::read_to_string(checkout.path("bin/python3")).unwrap();
    let without =
        "case \"$PYTHONPATH $*\" in \" -m pip\"*) echo 'No module named pip'; exit 1 ;; esac";
    checkout.replace_tool("python3", &format!("{without}\n{python}"));
    let mut setup = checkout.setup_libclang_only();
    run_ok(setup.env("PYTHONPATH", "/the/modules/of/a/cluster"));
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}

/// A script of Python that ends whatever imports it.
const POISON: &str = "raise SystemExit('poisoned')";

#[test]
fn variables_of_python_and_modules_in_the_current_folder_do_not_count() {
    let checkout = Checkout::new();
    checkout.mirror_libclang();
    let poisoned = checkout.path("poisoned");
    fs::create_dir(&poisoned).unwrap();
    for module in ["zipfile", "pathlib", "random", "pip", "sitecustomize"] {
        fs::write(poisoned.join(format!("{module}.py")), POISON).unwrap();
    }
    let mut setup = checkout.setup_libclang_only();
    setup.current_dir(&poisoned).env("PYTHONPATH", &poisoned);
    for (name, value) in [
        ("PYTHONHOME", "/nowhere"),
        ("PYTHONWARNINGS", "error"),
        ("PYTHONSAFEPATH", "1"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONINSPECT", "1"),
        ("PYTHONVERBOSE", "1"),
    ] {
        setup.env(name, value);
    }
    setup.env("PIP_NO_INDEX", "1");
    run_ok(setup.env("PIP_FIND_LINKS", checkout.path("mirror")));
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}
