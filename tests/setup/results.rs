//! What it puts in place: a runtime, libclang, a plugin; or what the user has instead.

use std::fs;
use std::process::Command;

use crate::checkout::Checkout;
use crate::ran::{assert_fails_with, run_ok};

#[test]
fn a_runtime_is_assembled_in_a_checkout_and_a_cache_with_any_name() {
    let checkout = Checkout::in_folder_named("it's a \"checkout\", #1 [é] $x ");
    // A wheel with a file in each place that the recipe takes one from, and libraries for its own to link to.
    let wheel_root = checkout.path("unpacked/tensorflow");
    for header in [
        "Eigen/x.h",
        "absl/x.h",
        "external/farmhash_archive/src/x.h",
        "external/highwayhash/highwayhash/x.h",
        "google/x.h",
        "ml_dtypes/x.h",
        "tsl/x.h",
        "unsupported/x.h",
        "xla/header.h",
    ] {
        let path = wheel_root.join("include").join(header);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "#define RIGHT_HEADER\n").unwrap();
    }
    for library in ["libtensorflow_cc.so.2", "libtensorflow_framework.so.2"] {
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-x", "c", "/dev/null", "-o"]);
        run_ok(compiler.arg(wheel_root.join(library)));
    }
    for source in ["quiet.cc", "shim.cc"] {
        let text =
            "#include \"xla/header.h\"\n#ifndef RIGHT_HEADER\n#error another header\n#endif\n";
        fs::write(checkout.path("xla_runtime").join(source), text).unwrap();
    }
    let pins = fs::read_to_string(checkout.path("xla_runtime/wheels.txt")).unwrap();
    let pinned = pins
        .lines()
        .find(|line| line.starts_with("tensorflow-cpu "));
    let old_sum = pinned.unwrap().split(' ').nth(3).unwrap();
    let wheel = checkout.pin_unpacked("xla_runtime/wheels.txt", old_sum);
    fs::rename(wheel, checkout.path("tensorflow.whl")).unwrap();
    fs::remove_dir_all(checkout.path("unpacked")).unwrap();
    checkout.pin_libclang();
    checkout.replace_pip_download(
        "case \"$*\" in *manylinux2010*) file=registry ;; *) file=tensorflow ;; esac\n\
         cp \"${0%/*}/../$file.whl\" \"$dest\"/",
    );
    // Another copy of the runtime's headers, as CPATH of a machine with TensorFlow in it may name.
    let other = checkout.path("other");
    fs::create_dir_all(other.join("xla")).unwrap();
    fs::write(other.join("xla/header.h"), "").unwrap();

    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", checkout.path("bin").display());
    run_ok(checkout.setup().env("PATH", path).env("CPATH", other));
    let version = fs::read_to_string(checkout.path(".xla/VERSION")).unwrap();
    assert!(version.starts_with("tensorflow-cpu "), "{version}");
    assert!(checkout.path(".xla/lib/libxla_shim.so").exists());
    assert_eq!(checkout.linked_libclang(), "libclang for a test");
}

#[test]
fn a_changed_recipe_makes_a_new_folder_and_keeps_the_old_one() {
    let checkout = Checkout::new();
    checkout.pin_libclang();
    checkout.serve_pinned_wheel();
    run_ok(&mut checkout.setup_libclang_only());
    let old_folder = fs::read_link(checkout.path(".xla")).unwrap();

    fs::write(checkout.path("xla_runtime/shim.cc"), "// changed").unwrap();
    fs::remove_file(checkout.path(".xla")).unwrap();
    run_ok(&mut checkout.setup_libclang_only());
    assert_ne!(fs::read_link(checkout.path(".xla")).unwrap(), old_folder);
    assert!(old_folder.exists());
    assert_eq!(checkout.downloads(), 1);
}

#[test]
fn a_plugin_is_put_where_the_program_looks_for_it() {
    let checkout = Checkout::new();
    checkout.pin_wheel(
        "fastatomstruct_xla_cpu/libpjrt_cpu.so",
        "a plugin for a test",
        "setup",
        "88b1c430b341b4bea40a37420311c9c75db6e22b46d2ff95b6986577bee6afe9",
    );
    checkout.serve_pinned_wheel();
    let mut setup = checkout.setup_libclang_only();
    run_ok(setup.env("LIBCLANG_PATH", "/somewhere").arg("cpu-plugin"));
    let plugin = checkout.path("cache/plugins/cpu/libpjrt_cpu.so");
    assert_eq!(fs::read_to_string(plugin).unwrap(), "a plugin for a test");
    assert_eq!(
        fs::read_dir(checkout.path("cache/wheels")).unwrap().count(),
        0
    );
}

#[test]
fn a_wrong_xla_extension_dir_is_refused() {
    let checkout = Checkout::new();
    fs::create_dir(checkout.path("empty")).unwrap();
    let output = checkout
        .setup()
        .env("XLA_EXTENSION_DIR", checkout.path("empty"))
        .output()
        .unwrap();
    assert_fails_with(
        &output,
        "is not the absolute path of a folder with include/ and lib/libxla_extension.so",
    );
}

#[test]
fn an_own_runtime_with_an_own_libclang_is_left_alone() {
    let checkout = Checkout::new();
    let output = run_ok(
        checkout
            .setup_libclang_only()
            .env("LIBCLANG_PATH", "/somewhere"),
    );
    assert!(
        output.contains("ready: XLA runtime of your XLA_EXTENSION_DIR"),
        "{output}"
    );
    assert!(!checkout.path("cache").exists() && !checkout.path(".xla").exists());
}
