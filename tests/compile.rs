//! `compile`: what it reports, on the CPU plugin and on libtpu, and of a training step when asked for.

mod program;

use std::fs;
use std::path::Path;
use std::process::Output;

use program::plugins::{cpu_plugin, libtpu};
use program::{fail, program_as_shipped, succeed, text};
use resnet_xla::device::saved_executable::SavedExecutable;
use serde_json::Value;

/// Set to have a training step compiled for a TPU too.
const LONG: &str = "RESNET_XLA_TEST_TPU_COMPILE";

#[test]
fn the_arguments_of_prediction_are_the_weights_and_the_images() {
    if cpu_plugin().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let report = succeed(&[
        "compile",
        "--target",
        "cpu",
        "--step",
        "predict",
        "--depth",
        "11",
        "--batch-per-chip",
        "16",
        "--json",
        "--save",
        text(folder.path()),
    ]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["model"], "ResNet-11 v2");
    let summary: Value =
        serde_json::from_str(&succeed(&["summary", "--depth", "11", "--json"])).unwrap();
    let parameters = summary["total_parameters"].as_i64().unwrap();
    assert_eq!(
        report["memory"]["arguments"],
        4 * (parameters + 16 * 32 * 32 * 3)
    );
    // The logits, and the pointer of the tuple that holds them.
    assert_eq!(report["memory"]["outputs"], 4 * 16 * 10 + 8);
    assert!(report["estimate"].is_null());
    let program = fs::read_to_string(folder.path().join("optimized.hlo.txt")).unwrap();
    assert!(program.contains("ENTRY") && program.contains("f32[16,32,32,3]"));
}

#[test]
fn a_target_that_is_none_is_a_usage_error() {
    let message = fail(&["compile", "--target", "v9:2x2"], 2);
    assert!(message.contains("for example v5e:2x4"), "{message}");
}

#[test]
fn a_shape_that_the_compiler_does_not_know_is_its_own_error() {
    if libtpu().is_none() {
        return;
    }
    let output = on_libtpu(&["--target", "v5e:9x9", "--depth", "11"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{message}");
    assert!(message.contains("Topology layout \"v5e:9x9\""), "{message}");
}

/// `compile` without the tests' flags for XLA's CPU compiler, which libtpu does not take.
fn on_libtpu(args: &[&str]) -> Output {
    let command = [&["compile"], args].concat();
    program_as_shipped(&command).output().unwrap()
}

/// The report on `step` of depth 11 for four chips, which must fit in their memory, do `passes` forward
/// passes of 128 images on each, and take the time that the estimated cycles take at the chip's clock. The saved
/// executable says what it is for.
fn compiled_for_a_tpu(step: &str, passes: f64) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(step);
    let args = [
        "--target",
        "v5e:2x2",
        "--depth",
        "11",
        "--step",
        step,
        "--json",
        "--save-executable",
        text(&file),
    ];
    let output = on_libtpu(&args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["chips"], &report["precision"]),
        (&4.into(), &"bf16".into())
    );
    assert_eq!(report["memory"]["fits"], true);
    let summary: Value =
        serde_json::from_str(&succeed(&["summary", "--depth", "11", "--json"])).unwrap();
    let expected = passes * 128.0 * summary["flops"].as_f64().unwrap();
    let flops = report["flops"].as_f64().unwrap();
    assert!(
        (0.8..1.3).contains(&(flops / expected)),
        "{flops}, expected {expected}"
    );
    let estimate = &report["estimate"];
    let (cycles, ms) = (
        estimate["cycles"].as_f64().unwrap(),
        estimate["step_ms"].as_f64().unwrap(),
    );
    assert!(
        (ms - cycles / 1.5e6).abs() < 1e-6,
        "{cycles} cycles, {ms} ms"
    );
    assert_eq!(estimate["loops_of_unknown_length"], 0);
    check_saved(&file, step);
    report
}

/// Checks what a computation for four chips of v5e that was saved says about itself, and that no other device takes it.
fn check_saved(file: &Path, step: &str) {
    let SavedExecutable {
        about, executable, ..
    } = SavedExecutable::read(file).unwrap();
    assert_eq!(about.computation, format!("{step}_step"));
    assert_eq!((about.target.as_str(), about.devices), ("v5e:2x2", 4));
    assert_eq!(about.compiler.device, "TPU v5 lite");
    assert!(about.compiler.plugin.contains("Built on"), "{about:?}");
    assert!(executable.len() > 100_000);
    if let Some(plugin) = cpu_plugin() {
        let message = fail(
            &[
                "predict",
                "--plugin",
                text(&plugin),
                "--load-executable",
                text(file),
            ],
            4,
        );
        assert!(
            message.contains("v5e:2x2 (4 x TPU v5 lite), and here is 1 x cpu"),
            "{message}"
        );
    }
}

#[test]
fn prediction_compiled_for_a_tpu_fits_and_is_estimated() {
    if libtpu().is_none() {
        return;
    }
    let report = compiled_for_a_tpu("predict", 1.0);
    assert_eq!(report["all_reduces"], 0);
}

#[test]
fn a_training_step_compiled_for_a_tpu_fits_and_is_estimated() {
    if std::env::var_os(LONG).is_none() {
        println!("skipped: takes a minute of one core and more; set {LONG}=1 to run it");
        return;
    }
    if libtpu().is_none() {
        return;
    }
    // Backward is twice forward.
    let report = compiled_for_a_tpu("train", 3.0);
    // 10 layers of batch norm, forward and backward, then gradients and metrics.
    let all_reduces = report["all_reduces"].as_u64().unwrap();
    assert!((20..=22).contains(&all_reduces), "{all_reduces}");
}
