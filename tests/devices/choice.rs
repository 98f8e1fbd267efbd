//! Which device and which plugin is taken, and what is said of those that are not.

use std::fs;
use std::path::Path;

use resnet_xla::device::plugin_kind::PluginKind;

use crate::program::plugins::{cpu_plugin, has_hardware, libtpu};
use crate::program::{self, text};
use crate::{device_error, doctor, errors};

#[test]
fn a_device_that_was_asked_for_is_never_replaced_by_another() {
    for (kind, device, expected) in [
        (
            PluginKind::Tpu,
            "tpu",
            "no TPU on this machine: looked for /dev/accel*",
        ),
        (
            PluginKind::Gpu,
            "gpu",
            "no GPU on this machine: looked for /dev/nvidia*",
        ),
    ] {
        if has_hardware(&kind) {
            continue;
        }
        let message = device_error(&mut doctor(&["--device", device]));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_plugin_is_found_in_each_place_where_it_may_lie() {
    // Any plugin will do: what lies where libtpu should is opened as the TPU.
    let Some(plugin) = cpu_plugin() else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = |path: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&plugin, &path).unwrap();
        path
    };
    place("cache/plugins/tpu/libtpu.so");
    place("venv/lib/python3.12/site-packages/libtpu/libtpu.so");
    let named = place("elsewhere/libtpu.so");
    let in_variable = format!("tpu:{}", named.display());
    for (variable, value) in [
        ("RESNET_XLA_CACHE", text(&folder.path().join("cache"))),
        ("VIRTUAL_ENV", text(&folder.path().join("venv"))),
        ("TPU_LIBRARY_PATH", text(&named)),
        ("XLA_PJRT_PLUGIN", &in_variable),
    ] {
        let mut command = doctor(&["--device", "tpu"]);
        command
            .env("TPU_NAME", "a-test")
            .env("HOME", folder.path())
            .env_remove("XDG_CACHE_HOME")
            .env_remove("VIRTUAL_ENV")
            .env("RESNET_XLA_CACHE", folder.path())
            .env(variable, value);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{variable}: {}", errors(&output));
    }
}

#[test]
fn the_cache_that_the_runtime_comes_from_is_looked_at_without_a_variable() {
    let home = tempfile::tempdir().unwrap();
    let mut command = doctor(&["--device", "cpu"]);
    command
        .env("HOME", home.path())
        .env_remove("XDG_CACHE_HOME");
    let report = String::from_utf8(command.output().unwrap().stdout).unwrap();
    // <cache>/xla-<key>/lib
    let cache = Path::new(env!("RESNET_XLA_RUNTIME_DIR")).ancestors().nth(2);
    for cache in [&home.path().join(".cache/resnet-xla"), cache.unwrap()] {
        let plugin = cache.join("plugins/tpu/libtpu.so");
        assert!(report.contains(text(&plugin)), "{report}");
    }
}

#[test]
fn auto_says_what_keeps_it_from_the_tpu_that_is_there() {
    if has_hardware(&PluginKind::Tpu) || has_hardware(&PluginKind::Gpu) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let mut command = doctor(&[]);
    command
        .env("HOME", home.path())
        .env_remove("XDG_CACHE_HOME")
        .env_remove("VIRTUAL_ENV")
        .env("RESNET_XLA_CACHE", home.path())
        .env("TPU_NAME", "a-test");
    let output = command.output().unwrap();
    let errors = errors(&output);
    assert!(output.status.success(), "{errors}");
    let taken = errors.lines().find(|line| line.contains("taking"));
    let taken = taken.unwrap();
    assert!(
        taken.starts_with(
            "taking the CPU; the machine has a TPU (variable TPU_NAME=a-test), but no"
        ),
        "{taken}"
    );
    assert!(taken.ends_with("no GPU here"), "{taken}");
}

#[test]
fn flags_that_xla_does_not_take_are_an_error_that_names_them() {
    const FLAGS: &str = "--xla_no_such_flag=1";
    let refused = |args: &[&str]| {
        let message = device_error(doctor(args).env("XLA_FLAGS", FLAGS));
        let expected = format!("Unknown flag in XLA_FLAGS: {FLAGS}");
        assert!(message.contains(&expected), "{message}");
        message
    };
    assert!(refused(&["--device", "cpu"]).contains("the XLA runtime does not take it"));
    if let Some(plugin) = cpu_plugin() {
        let expected = format!("{} does not take it", plugin.display());
        let message = refused(&["--plugin", text(&plugin)]);
        assert!(message.contains(&expected), "{message}");
    }
    if let Some(plugin) = libtpu() {
        let expected = format!("{} does not take it", plugin.display());
        let message = refused(&["--plugin", text(&plugin)]);
        assert!(message.contains(&expected), "{message}");
    }
    let mut command = doctor(&["--device", "cpu"]);
    command.env("XLA_FLAGS", "--xla_force_host_platform_device_count=many");
    let message = device_error(&mut command);
    assert!(message.contains("Flag parsing failed"), "{message}");
}

#[test]
fn when_no_plugin_works_every_path_that_was_tried_is_listed_with_its_reason() {
    let home = tempfile::tempdir().unwrap();
    let in_cache = home.path().join(".cache/resnet-xla/plugins/tpu/libtpu.so");
    let in_python = home
        .path()
        .join(".local/lib/python3.12/site-packages/libtpu/libtpu.so");
    for path in [&in_cache, &in_python] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    fs::write(&in_cache, "cut short").unwrap();
    let mut command = doctor(&["--device", "tpu"]);
    command
        .env("HOME", home.path())
        // The runtime's own cache may have the plugin.
        .env("RESNET_XLA_CACHE", home.path().join(".cache/resnet-xla"))
        .env_remove("VIRTUAL_ENV")
        .env("TPU_NAME", "a-test");
    let message = device_error(&mut command);
    for expected in [
        "variable TPU_NAME=a-test",
        &format!("{} (it is not a shared library", in_cache.display()),
        &format!("{} (it is not there)", in_python.display()),
        "/usr/lib/libtpu.so (it is not there)",
        "./setup tpu",
    ] {
        assert!(message.contains(expected), "no `{expected}` in {message}");
    }
}

#[test]
fn auto_takes_the_cpu_and_says_in_one_line_why_not_the_others() {
    if has_hardware(&PluginKind::Tpu) || has_hardware(&PluginKind::Gpu) {
        return;
    }
    let output = doctor(&[]).output().unwrap();
    let errors = errors(&output);
    assert!(output.status.success(), "{errors}");
    let taken: Vec<_> = errors
        .lines()
        .filter(|line| line.contains("taking"))
        .collect();
    assert_eq!(taken, ["taking the CPU; no TPU here; no GPU here"]);
}

#[test]
fn a_variable_that_names_no_plugin_says_what_it_should_be() {
    let message = device_error(doctor(&[]).env("XLA_PJRT_PLUGIN", "libtpu.so"));
    assert!(
        message.contains("XLA_PJRT_PLUGIN is `libtpu.so`; expected <type>:<path>"),
        "{message}"
    );
}

#[test]
fn a_plugin_that_the_environment_names_is_not_passed_over_when_it_is_bad() {
    let mut command = doctor(&["--device", "tpu"]);
    command
        .env("TPU_NAME", "a-test")
        .env("TPU_LIBRARY_PATH", "/no/such/libtpu.so");
    let message = device_error(&mut command);
    assert!(
        message.contains("/no/such/libtpu.so cannot be loaded: it is not there"),
        "{message}"
    );
}

#[test]
fn the_users_own_number_of_devices_stays() {
    let doctor = |replicas: &str| {
        let mut command = program::program(&["doctor", "--device", "cpu", "--replicas", replicas]);
        let four = "--xla_force_host_platform_device_count=4";
        let flags = program::xla_flags(&format!("{} {four}", program::COMPILE_FAST));
        command.env("XLA_FLAGS", flags).output().unwrap()
    };
    let printed = String::from_utf8(doctor("all").stdout).unwrap();
    assert!(printed.contains("works, 4 replicas"), "{printed}");
    let refused = doctor("8");
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(4), "{message}");
    assert!(
        message.contains("--replicas 8: expected at most 4"),
        "{message}"
    );
}

#[test]
fn flags_in_a_file_hold_beside_the_number_of_devices() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flags");
    let printed = |flags: &str| {
        fs::write(&file, flags).unwrap();
        let mut command = program::program(&["doctor", "--device", "cpu", "--replicas", "2"]);
        let output = command.env("XLA_FLAGS", &file).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let flags = program::xla_flags(program::COMPILE_FAST);
    let two = printed(&flags);
    assert!(two.contains("works, 2 replicas"), "{two}");
    // XLA reads those of the file too.
    let message = printed(&format!("{flags} --xla_no_such_flag=1"));
    assert!(message.contains("xla_no_such_flag"), "{message}");
}
