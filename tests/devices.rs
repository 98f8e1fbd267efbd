//! Devices and plugins: which is taken, and each way in which one cannot be, with exit code 4.

mod program;
#[path = "../pjrt/tests/support/stub.rs"]
mod stub;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use cpu_kernels::isa::{self, Isa};
use program::plugins::{cpu_plugin, has_hardware, libtpu};
use program::{fail, program, program_as_shipped, run, succeed, text};
use resnet_xla::device::plugin_kind::PluginKind;
use serde_json::Value;

/// libtpu has one lock file for the whole machine.
static LIBTPU: Mutex<()> = Mutex::new(());

/// Asks for a device and nothing more; libtpu is kept from asking a metadata server.
fn doctor(args: &[&str]) -> Command {
    let mut command = program_as_shipped(&[&["doctor"], args].concat());
    command
        .env("TPU_SKIP_MDS_QUERY", "1")
        .env("TPU_WORKER_HOSTNAMES", "localhost");
    command
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The error text of a command that must end with the exit code of an unusable device.
fn device_error(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(4), "{errors}");
    errors
}

/// A shared library made of `source`, in C.
fn library(folder: &Path, source: &str) -> PathBuf {
    let (code, library) = (folder.join("plugin.c"), folder.join("plugin.so"));
    fs::write(&code, source).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", text(&library), text(&code)])
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", errors(&compiled));
    library
}

#[test]
fn a_library_without_the_interface_is_no_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let path = library(folder.path(), "int answer(void) { return 42; }");
    let message = fail(&["--plugin", text(&path)], 4);
    assert!(message.contains("it has no GetPjrtApi"), "{message}");
}

#[test]
fn an_interface_without_a_table_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = library(folder.path(), "void *GetPjrtApi(void) { return 0; }");
    let message = fail(&["--plugin", text(&path)], 4);
    assert!(message.contains("returned no function table"), "{message}");
}

#[test]
fn a_plugin_for_another_processor_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.so");
    let mut binary = fs::read(env!("CARGO_BIN_EXE_resnet-xla")).unwrap();
    // The machine's number in the ELF header: 243 is RISC-V.
    binary[18..20].copy_from_slice(&243u16.to_le_bytes());
    fs::write(&path, &binary[..4096]).unwrap();
    let message = fail(&["--plugin", text(&path)], 4);
    assert!(message.contains("it is built for RISC-V"), "{message}");
}

#[test]
fn a_text_file_is_no_library() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.so");
    fs::write(&path, "not a library\n").unwrap();
    let message = fail(&["--plugin", text(&path)], 4);
    assert!(message.contains("it is not a shared library"), "{message}");
}

#[test]
fn a_plugin_that_crashes_at_load_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for source in [
        "__attribute__((constructor)) static void start(void) { *(volatile int *)0 = 1; }",
        "void abort(void);\nvoid *GetPjrtApi(void) { abort(); }",
    ] {
        let path = library(folder.path(), source);
        let message = fail(&["--plugin", text(&path)], 4);
        assert!(
            message.contains(text(&path)) && message.contains("crashed while it started"),
            "{message}"
        );
    }
}

/// A plugin in C whose functions all do `body`, of version `major` of the interface.
fn plugin_of(folder: &Path, major: u32, body: &str) -> PathBuf {
    let source = format!(
        "#include <stddef.h>
        static void *function(void *arguments) {{ {body} return 0; }}
        static struct {{
            size_t size; void *extension;
            struct {{ size_t size; void *extension; int major, minor; }} version;
            void *(*functions[150])(void *);
        }} table;
        void *GetPjrtApi(void) {{
            table.size = sizeof table;
            table.version.major = {major};
            for (int i = 0; i < 150; ++i) table.functions[i] = function;
            return &table;
        }}"
    );
    library(folder, &source)
}

#[test]
fn a_plugin_that_crashes_when_it_is_started_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = plugin_of(folder.path(), 0, "*(volatile int *)0 = 1;");
    let message = fail(&["--plugin", text(&path)], 4);
    assert!(
        message.contains(text(&path)) && message.contains("crashed while it started"),
        "{message}"
    );
}

#[test]
fn a_plugin_of_another_version_of_the_interface_says_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let path = plugin_of(folder.path(), 7, "");
    let message = fail(&["--plugin", text(&path)], 4);
    assert!(
        message.contains("it speaks PJRT C API 7.0; expected major version 0"),
        "{message}"
    );
}

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
fn doctor_says_whether_the_cpus_kernels_are_used() {
    let mut command = doctor(&["--device", "cpu"]);
    let output = command.env("RESNET_XLA_ISA", "generic").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        printed.contains("kernels     not used: see RESNET_XLA_ISA\n")
            && printed.contains("variable    RESNET_XLA_ISA=generic\n"),
        "{printed}"
    );
}

#[test]
fn doctor_says_what_a_plugin_says_of_its_extensions_memory_and_devices() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("plugin.so");
    stub::compile("MEMORY=1", &plugin);
    let output = doctor(&["--plugin", text(&plugin)]).output().unwrap();
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{printed}{}", errors(&output));
    for line in [
        "PJRT C API 0.0, extensions: Layouts",
        "StubDevice(id=0), memory: 512 MiB in use of 16384 MiB, 2048 MiB at its peak, coords: [0, 1]",
    ] {
        assert!(
            printed.contains(&format!("            {line}\n")),
            "{printed}"
        );
    }
}

#[test]
fn doctor_names_the_instruction_set_of_the_cpus_kernels() {
    if !Isa::Avx2.is_present() {
        println!("skipped: this processor has no AVX2");
        return;
    }
    for (named, isa) in [("auto", Isa::of_processor()), ("avx2", Isa::Avx2)] {
        let mut command = doctor(&["--device", "cpu"]);
        let output = command.env(isa::VARIABLE, named).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let mut lines = printed.lines();
        let kernels = lines.find_map(|line| line.strip_prefix("kernels     for "));
        // Where there is AMX too, the line goes on.
        let said = kernels.unwrap().split(';').next();
        assert_eq!(said, Some(&isa.to_string()[..]), "{printed}");
    }
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
fn libtpu_is_not_loaded_where_it_would_ask_a_metadata_server() {
    if has_hardware(&PluginKind::Tpu) {
        return;
    }
    let mut command = program(&["doctor", "--plugin", "/no/such/libtpu.so"]);
    command.env_remove("TPU_SKIP_MDS_QUERY");
    let message = device_error(&mut command);
    assert!(message.contains("no TPU on this machine"), "{message}");
}

#[test]
fn libtpu_says_itself_that_there_is_no_tpu() {
    if has_hardware(&PluginKind::Tpu) {
        return;
    }
    let Some(plugin) = libtpu() else { return };
    let _alone = LIBTPU.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = doctor(&["--plugin", text(&plugin)]);
    // Beside whatever else on this machine has loaded it.
    command.env("ALLOW_MULTIPLE_LIBTPU_LOAD", "1");
    let message = device_error(&mut command);
    assert!(message.contains("cannot be used"), "{message}");
    assert!(message.contains("No jellyfish device found"), "{message}");
}

#[test]
fn the_process_that_holds_the_tpu_is_named() {
    let Some(plugin) = libtpu() else { return };
    let _alone = LIBTPU.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut holder) = hold_lock() else {
        return;
    };
    let message = device_error(&mut doctor(&["--plugin", text(&plugin)]));
    let expected = format!("pid {} (python3", holder.id());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(
        message.contains("the TPU is held by another process"),
        "{message}"
    );
    assert!(message.contains(&expected), "no `{expected}` in {message}");
}

/// A process that locks what libtpu locks, as a training run elsewhere would, until this one ends it or ends itself;
/// `None`, with the reason printed, where another user's lock file is in the way.
fn hold_lock() -> Option<Child> {
    const LOCK: &str = "import fcntl, sys\n\
        file = open('/tmp/libtpu_lockfile', 'a')\n\
        fcntl.lockf(file, fcntl.LOCK_EX)\n\
        print('locked', flush=True)\n\
        sys.stdin.read()";
    let lock_file = File::options().append(true).open("/tmp/libtpu_lockfile");
    if let Err(error) = lock_file
        && error.kind() == ErrorKind::PermissionDenied
    {
        println!("skipped: libtpu's lock file belongs to another user: {error}");
        return None;
    }
    let mut holder = Command::new("python3")
        .args(["-c", LOCK])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = holder.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "locked\n");
    Some(holder)
}

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
