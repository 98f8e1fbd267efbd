//! The command line: what is refused, with which message and exit code.

mod program;

use std::fs::{self, File};
use std::process::Stdio;

use program::plugins::has_hardware;
use program::runs::quick_run;
use program::{fail, program, succeed, text};
use resnet_xla::device::plugin_kind::PluginKind;
use serde_json::Value;

#[test]
fn summary_ends_with_the_parameter_counts_of_the_tutorial() {
    let table = succeed(&["summary"]);
    let expected = "Total params: 1,727,482\n\
                    Trainable params: 1,703,258\n\
                    Non-trainable params: 24,224\n";
    assert!(table.ends_with(expected), "{table}");
    assert!(table.contains("stage3/unit18/conv3"));
}

#[test]
fn every_command_has_help_with_examples() {
    for command in [
        "train",
        "fetch",
        "summary",
        "eval",
        "predict",
        "plot",
        "report",
        "export",
        "bench",
        "compile",
        "doctor",
        "completions",
        "man",
    ] {
        let help = succeed(&[command, "--help"]);
        let examples = help.split("Examples:\n").nth(1).unwrap();
        let shown = examples.matches("resnet-xla ").count();
        assert!(shown >= 2, "{command}: {help}");
    }
}

#[test]
fn summary_json_adds_up_to_its_totals() {
    let summary: Value = serde_json::from_str(&succeed(&["summary", "--json"])).unwrap();
    let sum = |key: &str| -> u64 {
        let layers = summary["layers"].as_array().unwrap();
        layers
            .iter()
            .map(|layer| layer[key].as_u64().unwrap())
            .sum()
    };
    assert_eq!(summary["total_parameters"], 1_727_482);
    assert_eq!(sum("parameters"), 1_727_482);
    assert_eq!(summary["flops"], sum("flops"));
    assert_eq!(summary["activation_bytes"], sum("activation_bytes"));
}

#[test]
fn plot_overlays_runs_by_folder_or_history_file() {
    let folder = tempfile::tempdir().unwrap();
    let header = "epoch,loss,acc,val_loss,val_acc,lr,seconds,images_per_sec,input_wait_frac";
    let run = folder.path().join("first");
    fs::create_dir(&run).unwrap();
    fs::write(
        run.join("history.csv"),
        format!("{header}\n0,2,0.1,2.5,0.125,0.1,1,1,0\n"),
    )
    .unwrap();
    let second = folder.path().join("second.csv");
    fs::write(&second, format!("{header}\n0,1,0.5,1.5,0.375,0.1,1,1,0\n")).unwrap();
    let out = folder.path().join("plots");
    succeed(&["plot", text(&run), text(&second), "--out-dir", text(&out)]);
    let svg = fs::read_to_string(out.join("accuracy.svg")).unwrap();
    assert!(
        svg.contains("first  train 0.1000  validation 0.1250"),
        "{svg}"
    );
    assert!(
        svg.contains("second.csv  train 0.5000  validation 0.3750"),
        "{svg}"
    );
    assert!(out.join("loss.png").is_file());
    let missing = fail(&["plot", text(&folder.path().join("third"))], 1);
    assert!(missing.contains("third"), "{missing}");
}

#[test]
fn completions_and_manual_pages_know_the_commands_and_options() {
    for shell in ["bash", "zsh", "fish"] {
        let script = succeed(&["completions", shell]);
        for word in ["predict", "dump-logits"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    let page = succeed(&["man"]);
    assert!(page.contains(".TH resnet-xla 1"), "{page}");
    assert!(succeed(&["man", "eval"]).contains("resnet\\-xla eval"));
    assert!(fail(&["man", "evil"], 2).contains("evil"));
}

#[test]
fn a_tpu_that_is_not_there_is_one_clear_error() {
    if has_hardware(&PluginKind::Tpu) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out_dir = folder.path().join("run");
    let message = fail(&["--device", "tpu", "--out-dir", text(&out_dir)], 4);
    assert!(
        message.contains("no TPU") && message.contains("/dev/accel*"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(
        !out_dir.exists(),
        "a refused run must leave no folder behind"
    );
}

#[test]
fn a_plugin_that_is_not_there_is_named() {
    let message = fail(&["--plugin", "no/such/plugin.so"], 4);
    assert!(message.contains("no/such/plugin.so"), "{message}");
}

#[test]
fn a_plugin_that_is_no_plugin_is_refused_without_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.so");
    fs::write(&path, "not a library").unwrap();
    let message = fail(&["--plugin", text(&path)], 4);
    assert!(message.contains("plugin.so"), "{message}");
}

#[test]
fn settings_that_make_no_sense_are_usage_errors_that_name_the_option() {
    for (args, word) in [
        (&["--depth", "12"][..], "9n+2"),
        (&["--batch-size", "0"], "--batch-size"),
        (&["--batch-size", "1000000000"], "from 1 to 65536"),
        (&["--depth", "9000000000002"], "from 11 to 10001"),
        (&["summary", "--depth", "9000000000002"], "from 11 to 10001"),
        (&["--lr", "-1"], "--lr"),
        (&["--lr", "NaN"], "--lr"),
        (&["--momentum", "1.5"], "--momentum"),
        (&["--lr-drops", "9:0.1,3:0.2"], "order of epoch"),
        (&["--device", "abacus"], "abacus"),
        (&["--dpeth", "20"], "--depth"),
        (&["summary", "--depth", "5"], "9n+2"),
        (&["eval", "--batch-size", "0"], "--batch-size"),
        (&["eval", "--steps", "0"], "from 1 to 1000000000"),
        (&["eval", "--batch-size", "4294967295"], "from 1 to 65536"),
        (
            &["bench", "--input", "--batch-size", "4294967295"],
            "from 1 to 65536",
        ),
        (&["--seed", "9223372036854775808"], "to 9223372036854775807"),
        (&["export", "--out", "model.h5"], "keras_weights.py"),
        (&["--skip-bad"], "--skip-bad: expected no such option but"),
        (
            &["--model", "wrn-16-4", "--depth", "20"],
            "--depth is for --model resnet-v2 alone, and here it is --model wrn-16-4",
        ),
        (
            &["summary", "--model", "fast", "--depth", "20"],
            "--depth is for --model resnet-v2 alone",
        ),
        (
            &["bench", "--widths", "16,32,64"],
            "--widths is for --model fast, fast-deep, custom and custom-v1 alone",
        ),
        (
            &[
                "compile", "--target", "cpu", "--model", "fast", "--block", "basic",
            ],
            "--block is for --model custom and custom-v1 alone",
        ),
        (
            &["--rest-lr", "1"],
            "--rest-lr is for --optimizer muon alone, and here it is --optimizer sgd",
        ),
        (
            &["--model", "custom", "--widths", "16,32"],
            "expected 3 widths, one for each number of units, got 2",
        ),
        (
            &["--preset", "fast", "--model", "resnet18-v2"],
            "Take --whiten false",
        ),
        (
            &["--freeze-until", "stage4"],
            "--freeze-until: expected one of stem, stage1, stage2, stage3",
        ),
        (
            &["summary", "--model", "resnet50-v2", "--image-size", "100"],
            "expected a multiple of 32",
        ),
    ] {
        let message = fail(args, 2);
        assert!(message.contains(word), "{args:?}: {message}");
    }
}

#[test]
fn a_config_file_with_an_unknown_key_suggests_the_near_miss() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    fs::write(&path, "batch-sise = 3\n").unwrap();
    let message = fail(&["-c", text(&path)], 2);
    assert!(
        message.contains("batch-sise") && message.contains("`batch-size`"),
        "{message}"
    );
    fs::write(&path, "depth = \"deep\"\n").unwrap();
    let message = fail(&["-c", text(&path)], 2);
    assert!(
        message.contains("run.toml") && message.contains("depth"),
        "{message}"
    );
}

#[test]
fn a_flipped_byte_is_refused_before_anything_compiles() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    for index in 1..=5 {
        fs::write(
            data.join(format!("data_batch_{index}.bin")),
            vec![0; 30_730_000],
        )
        .unwrap();
    }
    fs::write(data.join("test_batch.bin"), vec![0; 30_730_000]).unwrap();
    let out_dir = folder.path().join("run");
    let message = fail(&["--data-dir", text(&data), "--out-dir", text(&out_dir)], 3);
    // The official sum of the first file, and the sum of 30,730,000 zero bytes.
    for part in [
        "data_batch_1.bin",
        "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "3a8a84b64bcf861b26141d5cdcae007b",
    ] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    assert!(!message.contains("compiled"), "{message}");
}

#[test]
fn a_checkpoint_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let eval = |path: &str| fail(&["eval", "--checkpoint", path], 3);
    assert!(eval(text(&path)).contains("x.safetensors"));
    fs::write(&path, "garbage").unwrap();
    assert!(eval(text(&path)).contains("not a usable checkpoint"));
    // The first bytes of an HDF5 file.
    let model = folder.path().join("model.h5");
    fs::write(&model, b"\x89HDF\r\n\x1a\n and more").unwrap();
    let train = [
        "--preset",
        "quick",
        "--device",
        "cpu",
        "--init-weights",
        text(&model),
    ];
    let run = folder.path().join("run");
    for message in [
        eval(text(&model)),
        fail(&[&train[..], &["--out-dir", text(&run)]].concat(), 3),
    ] {
        let advice = format!("keras_weights.py from-keras {} weights", model.display());
        assert!(
            message.contains("HDF5") && message.contains(&advice),
            "{message}"
        );
    }
    assert!(eval(text(folder.path())).contains("no checkpoint in"));
}

#[test]
fn doctor_says_what_is_there_and_what_is_not() {
    let report = succeed(&["doctor"]);
    for part in ["runtime", "libtensorflow_cc", "TPU", "GPU", "cpu ("] {
        assert!(report.contains(part), "{part} is not in {report}");
    }
}

#[test]
fn a_command_whose_reader_is_gone_ends_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(&quick_run(&run, "--max-steps 1 --eval-steps 1"));
    let run = text(&run);
    let picture = folder.path().join("predictions.png");
    for args in [
        &["man"][..],
        &["completions", "bash"],
        &["summary"],
        &["doctor", "--device", "cpu"],
        &["eval", "--device", "cpu", "--checkpoint", run, "--json"],
        &["eval", "--device", "cpu", "--checkpoint", run],
        &["predict", "--checkpoint", run, "--out", text(&picture)],
    ] {
        let mut command = program(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{args:?}: {errors}");
        let silent = !errors.contains("error") && !errors.contains("panicked");
        assert!(silent, "{args:?}: {errors}");
    }
    assert!(picture.exists());
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    for args in [&["summary"][..], &["completions", "bash"], &["man"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = program(args).stdout(full).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {errors}");
        let expected = "error: cannot write to standard output: No space left on device";
        assert!(errors.starts_with(expected), "{args:?}: {errors}");
    }
}
