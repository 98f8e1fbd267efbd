//! Whole runs on the CPU plugin.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::program::plugins::cpu_plugin;
use crate::program::{program_as_shipped, run, succeed, text};
use crate::{errors, library};

/// How far apart the logits of two ways of compiling depth 11 may be, as a share of the largest: the rounding of sums of
/// 1,152 terms, the longest (a 3x3 convolution of 128 channels), in each of 11 layers.
const LOGITS: f64 = 11.0 * 1152.0 * f32::EPSILON as f64 / 2.0;
/// Of the sample.
const TEST_IMAGES: usize = 500;

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

#[test]
fn training_resuming_evaluation_predictions_and_report_work_through_a_plugin() {
    let Some(plugin) = cpu_plugin() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let on_plugin = |args: &[&str]| {
        let mut command = program_as_shipped(args);
        let output = command.args(["--plugin", text(&plugin)]).output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let train = |args: &[&str]| {
        let run = [
            "--preset",
            "quick",
            "--progress",
            "none",
            "--out-dir",
            text(&run),
        ];
        on_plugin(&[&run, args].concat())
    };
    train(&["--max-steps", "2", "--eval-steps", "1"]);
    train(&["--resume", "--max-steps", "4"]);
    let result = fs::read_to_string(run.join("result.json")).unwrap();
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["steps"], 4);

    let logits = |eval: &dyn Fn(&[&str]) -> String| {
        let file = folder.path().join("logits.npy");
        let scored = ["eval", "--checkpoint", text(&run), "--dataset", "sample"];
        eval(&[&scored[..], &["--dump-logits", text(&file)]].concat());
        let bytes = fs::read(&file).unwrap();
        // The values come last.
        let (values, _) = bytes[bytes.len() - TEST_IMAGES * 10 * 4..].as_chunks();
        let values = values.iter().map(|value| f32::from_le_bytes(*value).into());
        values.collect::<Vec<f64>>()
    };
    let (here, there) = (logits(&succeed), logits(&on_plugin));
    let largest = here.iter().fold(0f64, |most, logit| most.max(logit.abs()));
    let bound = LOGITS * largest;
    let apart = largest_difference(&here, &there);
    println!("logits: {apart:.1e} apart, {bound:.1e} allowed");
    assert!(apart < bound, "{apart:.1e} is more than {bound:.1e}");

    let picture = folder.path().join("predictions.png");
    let predicted = [
        "predict",
        "--checkpoint",
        text(&run),
        "--out",
        text(&picture),
        "--json",
    ];
    let here = probabilities(&succeed(&predicted));
    let there = probabilities(&on_plugin(&predicted));
    assert!(here.len() >= 10);
    // Its logarithm is a logit less the logarithm of the sum of their exponentials, which moves no further than they do; and
    // a probability moves less than its logarithm.
    let apart = largest_difference(&here, &there);
    assert!(apart < 2.0 * bound, "{here:?} {there:?}");
    let page = folder.path().join("report.html");
    on_plugin(&["report", "--checkpoint", text(&run), "--out", text(&page)]);
    assert!(page.is_file() && picture.is_file());
}

/// The CPU plugin without the parts that are not in the interface's table.
fn without_extensions(folder: &Path, plugin: &Path) -> PathBuf {
    let source = format!(
        "#include <dlfcn.h>
        #include <stddef.h>
        #include <string.h>
        struct table {{ size_t size; void *extensions; }};
        void *GetPjrtApi(void) {{
            static char copy[1 << 14];
            void *plugin = dlopen(\"{}\", RTLD_NOW | RTLD_LOCAL);
            struct table *(*get)(void) = (struct table *(*)(void))dlsym(plugin, \"GetPjrtApi\");
            struct table *table = get();
            memcpy(copy, table, table->size < sizeof copy ? table->size : sizeof copy);
            ((struct table *)copy)->extensions = NULL;
            return copy;
        }}",
        plugin.display()
    );
    let library = library(folder, &source);
    let named = folder.join("cpu.so");
    fs::rename(library, &named).unwrap();
    named
}

#[test]
fn a_cpu_plugin_runs_the_kernels_and_one_that_takes_none_says_so_and_does_without() {
    let Some(plugin) = cpu_plugin() else { return };
    if !cpu_kernels::supported() {
        println!("skipped: this processor runs no kernels");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let plain = without_extensions(folder.path(), &plugin);
    let step = |device: &[&str], more: &[&str]| {
        let args = "bench --json --depth 11 --batch-size 4 --steps 2 --warmup 1";
        let args: Vec<_> = args.split_whitespace().collect();
        run(&[&args[..], device, more].concat())
    };
    let kernels = ["--lowering", "kernels"];
    let plugin = ["--plugin", text(&plugin)];
    // `plugin_kernels.rs` compares their bits with those on the runtime's own CPU, and `reference.rs` a step with Keras's.
    for precision in ["f32", "bf16"] {
        let output = step(
            &plugin,
            &[&kernels[..], &["--precision", precision]].concat(),
        );
        assert!(output.status.success(), "{}", errors(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["lowering"], "kernels", "{report}");
        assert!(report["last_loss"].as_f64() > Some(0.0), "{report}");
    }
    let plain = ["--plugin", text(&plain)];
    assert_eq!(step(&plain, &kernels).status.code(), Some(2));
    let output = step(&plain, &[]);
    assert!(output.status.success(), "{}", errors(&output));
    let said = errors(&output);
    assert!(
        said.contains("does not run the program's kernels (it has no PJRT_FFI_Register_Handler"),
        "{said}"
    );
}

/// The probability of the first class of each prediction in what `predict --json` prints.
fn probabilities(printed: &str) -> Vec<f64> {
    let printed: Value = serde_json::from_str(printed).unwrap();
    let first = |image: &Value| image["predictions"][0]["probability"].as_f64().unwrap();
    printed.as_array().unwrap().iter().map(first).collect()
}

#[test]
fn eight_replicas_behind_a_plugin_learn_what_one_does() {
    let Some(plugin) = cpu_plugin() else { return };
    let folder = tempfile::tempdir().unwrap();
    let losses = |replicas: &str, precision: &str| {
        let run = folder.path().join(format!("{replicas}-{precision}"));
        // With so small a rate the weights stay what they are: both steps have the same ones for one replica and for
        // eight, and a loss, unlike a gradient, does not jump where an activation passes its kink.
        let options = "--preset quick --batch-size 16 --max-steps 2 --eval-steps 1 --progress none \
            --lr 1e-7";
        let mut args: Vec<_> = options.split_whitespace().collect();
        args.extend(["--plugin", text(&plugin), "--out-dir", text(&run)]);
        args.extend(["--replicas", replicas, "--precision", precision]);
        succeed(&args);
        let result = fs::read_to_string(run.join("result.json")).unwrap();
        let result: Value = serde_json::from_str(&result).unwrap();
        assert_eq!(result["replicas"].to_string(), replicas);
        ["loss", "val_loss"].map(|key| result[key].as_f64().unwrap())
    };
    // A mantissa of 8 bits, and sums of 2 images instead of 16.
    for (precision, allowed) in [("f32", 1e-4), ("bf16", 2e-2)] {
        let (one, eight) = (losses("1", precision), losses("8", precision));
        for (one, eight) in one.iter().zip(eight) {
            let apart = (eight / one - 1.0).abs();
            println!("{precision}: {apart:.1e}");
            assert!(
                apart < allowed,
                "{precision}: {eight} of eight, {one} of one"
            );
        }
    }
}
