//! `bench`: what it prints, not how fast it is.

mod program;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use cpu_kernels::isa::{self, Isa};
use program::plugins::cpu_plugin;
use program::{COMPILE_FAST, fail, program, succeed, text, xla_flags};
use serde_json::Value;

const SMALL: [&str; 11] = [
    "bench",
    "--device",
    "cpu",
    "--depth",
    "11",
    "--batch-size",
    "4",
    "--steps",
    "5",
    "--warmup",
    "1",
];

#[test]
fn bench_prints_one_object_that_agrees_with_the_clock_and_with_summary() {
    let started = Instant::now();
    let report: Value =
        serde_json::from_str(&succeed(&[&SMALL[..], &["--json"]].concat())).unwrap();
    let took = started.elapsed().as_secs_f64();
    let number = |key: &str| report[key].as_f64().unwrap();

    assert_eq!(
        (number("n"), number("batch_size"), number("depth")),
        (5.0, 4.0, 11.0)
    );
    assert_eq!(report["isa"], cpu_kernels::isa().to_string());
    // Half of the timed steps took the median or longer, one after the other.
    assert!(
        number("compile_s") + 3.0 * number("step_ms") / 1e3 < took,
        "{report}"
    );
    assert!(number("step_ms_q1") <= number("step_ms") && number("step_ms") <= number("step_ms_q3"));
    let images = number("images_per_sec") * number("step_ms") / 1e3;
    assert!((images - 4.0).abs() < 1e-9, "{images}");

    let summary: Value =
        serde_json::from_str(&succeed(&["summary", "--depth", "11", "--json"])).unwrap();
    assert_eq!(
        report["trainable_parameters"],
        summary["trainable_parameters"]
    );
    // Ten classes, four images: the step learns them.
    assert!(number("last_loss") < number("first_loss"), "{report}");
}

#[test]
fn bench_of_exported_computations_has_the_losses_of_traced_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, exported) = (folder.path().join("a.toml"), folder.path().join("program"));
    fs::write(&settings, "depth = 11\nbatch-size = 4\n").unwrap();
    let export = ["export", "--program", text(&exported), "--on", "cpu"];
    succeed(&[&export[..], &["--settings", text(&settings)]].concat());
    let bench = ["bench", "--program", text(&exported), "--device", "cpu"];
    let steps = ["--steps", "5", "--warmup", "1", "--json"];
    let report = |args: &[&str]| serde_json::from_str::<Value>(&succeed(args)).unwrap();
    let of_folder = report(&[&bench[..], &steps].concat());
    let traced = report(&[&SMALL[..], &["--json"]].concat());
    for key in [
        "model",
        "depth",
        "batch_size",
        "lowering",
        "n",
        "first_loss",
        "last_loss",
    ] {
        assert_eq!(of_folder[key], traced[key], "{key}");
    }
    // A step that mixes labels is timed with images that are not mixed.
    fs::write(&settings, "depth = 11\nbatch-size = 4\nmixup = 0.2\n").unwrap();
    let mixing = folder.path().join("mixing");
    let export = ["export", "--program", text(&mixing), "--on", "cpu"];
    succeed(&[&export[..], &["--settings", text(&settings)]].concat());
    let of_mixing = ["bench", "--program", text(&mixing), "--device", "cpu"];
    let of_mixing = report(&[&of_mixing[..], &steps].concat());
    let loss = |report: &Value| report["first_loss"].as_f64().unwrap();
    let off = (loss(&of_mixing) - loss(&traced)).abs();
    assert!(off < 1e-4, "{of_mixing}");
    // They have all that already.
    for (option, value) in [
        ("--batch-size", "4"),
        ("--optimizer", "sgd"),
        ("--classes", "10"),
        ("--image-size", "32"),
        ("--stage-units", "2,2,2"),
        ("--block", "basic"),
        ("--precision", "f32"),
        ("--units", "unrolled"),
    ] {
        let message = fail(&[&bench[..], &[option, value]].concat(), 2);
        assert!(message.contains(option), "{message}");
    }
}

#[test]
fn bench_without_json_is_a_table_for_people() {
    let table = succeed(&SMALL);
    assert!(
        table.starts_with("training step of ResNet-11 v2, batch 4, f32 on cpu"),
        "{table}"
    );
    for row in ["step ", "throughput ", "compile ", "memory ", "loss "] {
        assert!(table.contains(&format!("\n{row}")), "{row}: {table}");
    }
}

#[test]
fn a_depth_that_no_network_has_is_a_usage_error() {
    assert!(fail(&["bench", "--depth", "12"], 2).contains("9n+2"));
}

#[test]
fn bench_of_the_input_adds_up_decoding_and_batches() {
    let started = Instant::now();
    let args = [
        "bench",
        "--input",
        "--augment",
        "crop",
        "--epochs",
        "1",
        "--json",
    ];
    let report: Value = serde_json::from_str(&succeed(&args)).unwrap();
    let took = started.elapsed().as_secs_f64();
    let rate = |key: &str| report[key].as_f64().unwrap();

    assert_eq!(
        (&report["augment"], &report["n"]),
        (&"crop".into(), &1.into())
    );
    let parts = 1.0 / rate("decode_images_per_sec") + 1.0 / rate("batch_images_per_sec");
    assert!(
        (parts * rate("images_per_sec") - 1.0).abs() < 1e-9,
        "{report}"
    );
    // The 50,000 images of the timed epoch were made while the program ran.
    assert!(50_000.0 / rate("images_per_sec") < took, "{report}");
}

#[test]
fn bench_of_the_host_keeps_up_with_the_clock_and_in_bounded_memory() {
    let started = Instant::now();
    let args = [
        "bench",
        "--host",
        "--device",
        "cpu",
        "--replicas",
        "2",
        "--batch-size",
        "256",
        "--epochs",
        "2",
        "--json",
    ];
    // With an arena for each thread that allocates, memory would depend on which threads a machine's cores run.
    let output = program(&args)
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let took = started.elapsed().as_secs_f64();
    let number = |key: &str| report[key].as_f64().unwrap();

    assert_eq!((number("n"), number("replicas")), (2.0, 2.0));
    let rates = ["fed_images_per_sec", "uploaded_images_per_sec"];
    let epochs: f64 = rates.iter().map(|rate| 50_000.0 / number(rate)).sum();
    assert!(epochs < took, "{report}");
    // An epoch is 614 MB of batches.
    assert!(
        number("last_rss_mb") < number("first_rss_mb") + 100.0,
        "{report}"
    );
}

#[test]
fn the_host_takes_a_part_of_each_step() {
    let report: Value =
        serde_json::from_str(&succeed(&[&SMALL[..], &["--json"]].concat())).unwrap();
    let number = |key: &str| report[key].as_f64().unwrap();
    assert!(
        0.0 < number("host_ms") && number("host_ms") < number("step_ms"),
        "{report}"
    );
}

/// Pages that a step on `device` touches anew, once the steps before have touched theirs; `None`, with the reason printed,
/// where the system does not count them.
fn page_faults(device: &[&str]) -> Option<f64> {
    let steps = ["--steps", "5", "--warmup", "5", "--depth", "11", "--json"];
    let report = succeed(&[&["bench"], device, &steps].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    let faults = report["page_faults"].as_f64();
    if faults.is_none() {
        println!("skipped: this system does not count page faults");
    }
    faults
}

#[test]
fn a_step_keeps_its_memory_for_the_next() {
    if let Some(faults) = page_faults(&["--device", "cpu"]) {
        // The activations of one layer alone have 2,048 pages and more.
        assert!(faults < 2_000.0, "{faults}");
    }
}

#[test]
fn a_step_on_a_cpu_plugin_keeps_its_memory_for_the_next() {
    let Some(plugin) = cpu_plugin() else {
        return;
    };
    if let Some(faults) = page_faults(&["--plugin", text(&plugin)]) {
        // Its temporaries have 40,000 pages. Its threads may still touch scratch memory of their own for the first time.
        assert!(faults < 10_000.0, "{faults}");
    }
}

#[test]
fn options_of_the_step_do_not_go_with_the_input() {
    assert!(fail(&["bench", "--input", "--depth", "20"], 2).contains("--depth"));
    assert!(fail(&["bench", "--host", "--steps", "5"], 2).contains("--steps"));
    assert!(fail(&["bench", "--host", "--input"], 2).contains("--input"));
    assert!(fail(&["bench", "--augment", "crop"], 2).contains("--input"));
}

#[test]
fn the_step_computes_the_same_in_every_formulation() {
    let loss = |lowering: &[&str]| {
        let report = succeed(&[&SMALL[..], &["--json"], lowering].concat());
        let report: Value = serde_json::from_str(&report).unwrap();
        let name = report["lowering"].as_str().unwrap().to_owned();
        // Before the weights have moved: later losses grow apart as any two trainings do.
        (name, report["first_loss"].as_f64().unwrap())
    };
    let (name, chosen) = loss(&[]);
    assert_eq!(name == "kernels", cpu_kernels::supported());
    for asked in ["native", "dots"] {
        let (name, loss) = loss(&["--lowering", asked]);
        assert_eq!(name, asked);
        assert!(
            (loss / chosen - 1.0).abs() < 1e-3,
            "{asked}: {loss}, {chosen}"
        );
    }
    let args = [&SMALL[..], &["--lowering", "kernels"]].concat();
    let refused = program(&args).env("RESNET_XLA_ISA", "generic").output();
    let refused = refused.unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("AVX2"));
}

#[test]
fn a_generic_instruction_set_does_without_the_kernels() {
    let bench = |isa| {
        let args = [&SMALL[..], &["--json"]].concat();
        program(&args).env("RESNET_XLA_ISA", isa).output().unwrap()
    };
    let report: Value = serde_json::from_slice(&bench("generic").stdout).unwrap();
    assert_eq!(report["lowering"], "dots");
    let refused = bench("sse9");
    let message = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{message}");
    assert!(
        message.contains(
            "RESNET_XLA_ISA is `sse9`; expected auto, amx, avx512-bf16, avx512, avx2 or generic"
        ),
        "{message}"
    );
}

#[test]
fn the_reports_name_the_instruction_set() {
    let report = |args: &[&str], isa: Isa| {
        let output = program(args).env(isa::VARIABLE, isa.to_string()).output();
        let output = output.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    let of_json = |printed: &str| -> Value {
        let report: Value = serde_json::from_str(printed).unwrap();
        report["isa"].clone()
    };
    // Without the variable it is the processor's best.
    let small = "--device cpu --depth 11 --batch-size 2 --steps 1 --warmup 1";
    let small: Vec<_> = small.split(' ').collect();
    let json = [&["bench", "--json"][..], &small].concat();
    let own = program(&json).env_remove(isa::VARIABLE).output().unwrap();
    let own = of_json(&String::from_utf8(own.stdout).unwrap());
    assert_eq!(own, Isa::of_processor().to_string());
    if !Isa::Avx2.is_present() {
        println!("skipped: the kernels: this processor has no AVX2");
        return;
    }
    let printed = report(&[&["bench"][..], &small].concat(), Isa::Avx2);
    assert!(printed.contains("kernels     for avx2\n"), "{printed}");
    let ops = ["bench", "--ops"];
    let table = report(&[&ops[..], &small].concat(), Isa::Avx2);
    assert!(table.lines().next().unwrap().contains("avx2"), "{table}");
    let best = Isa::of_processor();
    let json = report(&[&ops[..], &["--json"], &small].concat(), best);
    assert_eq!(of_json(&json), best.to_string());
}

#[test]
fn the_operations_add_up_to_the_work_of_a_step() {
    if !cpu_kernels::supported() {
        println!("skipped: this processor has no AVX2, or RESNET_XLA_ISA says generic");
        return;
    }
    for precision in ["f32", "bf16"] {
        check_operations(precision);
    }
}

fn check_operations(precision: &str) {
    let started = Instant::now();
    let args = [
        "bench", "--ops", "--device", "cpu", "--json", "--depth", "11",
    ];
    let small = ["--batch-size", "2", "--steps", "3", "--warmup", "1"];
    let args = [&args[..], &small, &["--precision", precision]].concat();
    let report: Value = serde_json::from_str(&succeed(&args)).unwrap();
    let took = started.elapsed().as_secs_f64();
    assert_eq!(report["precision"], precision);
    assert_eq!(report["isa"], cpu_kernels::isa().to_string());

    let rows = report["operations"].as_array().unwrap();
    let sum = |value: &dyn Fn(&Value) -> f64| -> f64 {
        rows.iter()
            .map(|row| row["count"].as_f64().unwrap() * value(row))
            .sum()
    };
    let summary: Value =
        serde_json::from_str(&succeed(&["summary", "--depth", "11", "--json"])).unwrap();
    let flops = sum(&|row| row["flops"].as_f64().unwrap());
    assert_eq!(flops, 3.0 * 2.0 * summary["flops"].as_f64().unwrap());

    // Ten weights layers but for the dense one, three shortcuts, and on the way back the first unit's norm; those of the
    // others are part of the last layer in front of them.
    let forward = rows.iter().filter(|row| row["pass"] == "forward");
    let counts: u64 = forward.map(|row| row["count"].as_u64().unwrap()).sum();
    assert_eq!(counts, 10 + 3 + 1, "{report}");
    assert_eq!(sum(&|_| 1.0), 2.0 * 14.0 + 1.0 + 1.0, "{report}");

    let bound = |key: &str| report["bound"][key].as_f64().unwrap();
    for row in rows {
        let rate =
            |amount: &str| row[amount].as_f64().unwrap() / row["bound_ms"].as_f64().unwrap() / 1e6;
        let shares = [
            rate("flops") / bound("gflops"),
            rate("bytes") / bound("gb_per_s"),
        ];
        let reached = f64::max(shares[0], shares[1]);
        assert!((reached - 1.0).abs() < 1e-9, "{row}");
    }

    for formulation in ["kernels", "dots"] {
        let ms = |row: &Value| row[formulation]["ms"].as_f64().unwrap();
        let total = sum(&ms);
        assert!((total / report["sum_ms"][formulation].as_f64().unwrap() - 1.0).abs() < 1e-9);
        assert!(rows.iter().all(|row| ms(row) > 0.0), "{report}");
        // Two of three timed runs took the median or longer.
        let once: f64 = rows.iter().map(ms).sum();
        assert!(2.0 * once / 1e3 < took, "{report}");
    }
}

#[test]
fn operations_are_timed_on_each_set_of_the_processor() {
    assert!(fail(&["bench", "--all-sets"], 2).contains("--ops"));
    let present = Isa::ALL.into_iter().filter(|isa| isa.is_present());
    let expected: Vec<String> = present.skip(1).map(|isa| isa.to_string()).collect();
    if expected.is_empty() {
        println!("skipped: this processor has no AVX2");
        return;
    }
    let bench = |more: &'static str| -> Vec<&'static str> {
        let all = "bench --ops --all-sets --device cpu --json";
        all.split(' ').chain(more.split(' ')).collect()
    };
    let printed = succeed(&bench("--depth 11 --batch-size 2 --steps 1 --warmup 1"));
    let reports = serde_json::Deserializer::from_str(&printed).into_iter::<Value>();
    let set = |report: Value| report["isa"].as_str().unwrap().to_owned();
    let sets: Vec<String> = reports.map(|report| set(report.unwrap())).collect();
    assert_eq!(sets, expected);
    // The process of the first set says why, and its exit code is this one's.
    let errors = fail(&bench("--depth 11 --init-weights nowhere.safetensors"), 3);
    for part in ["nowhere.safetensors", "bench --ops on avx2 ended with"] {
        assert!(errors.contains(part), "{errors}");
    }
}

#[test]
fn operations_are_compared_where_there_are_kernels() {
    assert!(fail(&["bench", "--ops", "--lowering", "dots"], 2).contains("--lowering"));
    assert!(fail(&["bench", "--ops", "--input"], 2).contains("--input"));
}

#[test]
fn scaling_sh_has_a_row_for_each_depth_and_batch_that_ran() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/scaling.sh");
    // A batch of none is refused.
    let output = Command::new(script)
        .args(["11", "--", "--optimizer", "nesterov"])
        .envs([("BATCHES", "0 2 4"), ("CORES", "1")])
        .envs([("ROUNDS", "2"), ("STEPS", "1")])
        .env("RESNET_XLA_BIN", env!("CARGO_BIN_EXE_resnet-xla"))
        .env("RESNET_XLA_COMPILE_CACHE", "none")
        .env("XLA_FLAGS", xla_flags(COMPILE_FAST))
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("batch 0 on processors"), "{errors}");

    let table = String::from_utf8(output.stdout).unwrap();
    let rows = table
        .lines()
        .filter_map(|line| line.strip_prefix("| 11 | "));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
    assert_eq!(rows.len(), 2, "{table}");
    for (row, batch) in rows.iter().zip(["2", "4"]) {
        assert_eq!([row[0], row[1], row[4]], [batch, "1", "2"], "{table}");
        let number = |column: usize| row[column].replace(',', "").parse::<f64>().unwrap();
        let images = number(2) / 1e3 * number(5);
        assert!((images / number(0) - 1.0).abs() < 0.05, "{table}");
    }
}
