//! `--profile`: the recorded steps as a Chrome trace, and what the devices recorded where TensorBoard looks for it.

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use program::plugins::cpu_plugin;
use program::runs::{assert_same_end, quick_run};
use program::shims::compile;
use program::{program, succeed, tensorboard, text};
use prost::Message;
use serde_json::Value;

/// A bar of a trace, in nanoseconds since its beginning.
#[derive(Debug, PartialEq)]
struct Bar {
    name: String,
    begin: u64,
    end: u64,
}

/// The bars of the kind `category` in the trace of the run in `folder`, as the format has them.
fn bars(folder: &Path, category: &str) -> Vec<Bar> {
    let text = fs::read_to_string(folder.join("profile.json")).unwrap();
    let trace: Value = serde_json::from_str(&text).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let nanoseconds =
        |event: &Value, key: &str| (event[key].as_f64().unwrap() * 1e3).round() as u64;
    let of_category = events.iter().filter(|event| event["cat"] == category);
    let bar = |event: &Value| {
        assert_eq!(
            (&event["ph"], &event["pid"], &event["tid"]),
            (&"X".into(), &1.into(), &1.into())
        );
        let begin = nanoseconds(event, "ts");
        let name = event["name"].as_str().unwrap().to_owned();
        let end = begin + nanoseconds(event, "dur");
        Bar { name, begin, end }
    };
    of_category.map(bar).collect()
}

fn names(bars: &[Bar]) -> Vec<&str> {
    bars.iter().map(|bar| bar.name.as_str()).collect()
}

/// The bars within `step`; none may lie across its ends.
fn within<'a>(step: &Bar, bars: &'a [Bar]) -> Vec<&'a Bar> {
    let overlaps = |bar: &&Bar| bar.begin < step.end && step.begin < bar.end;
    let inside: Vec<_> = bars.iter().filter(overlaps).collect();
    for bar in &inside {
        assert!(
            step.begin <= bar.begin && bar.end <= step.end,
            "{bar:?} {step:?}"
        );
    }
    inside
}

#[test]
fn the_trace_covers_each_step_without_a_gap_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, profiled) = (folder.path().join("plain"), folder.path().join("profiled"));
    let options = "--epochs 2 --steps-per-epoch 4 --eval-steps 1 --checkpoint-every 2";
    succeed(&quick_run(&plain, options));
    assert!(!plain.join("profile.json").exists());
    let output = program(&quick_run(&profiled, &format!("{options} --profile 5"))).output();
    let log = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(
        log.contains("--profile records the host alone; cpu ("),
        "{log}"
    );
    assert!(log.contains("profile of 5 steps: "), "{log}");
    assert_same_end(&profiled, &plain);

    let (steps, parts) = (bars(&profiled, "step"), bars(&profiled, "host"));
    assert_eq!(
        names(&steps),
        ["step 1", "step 2", "step 3", "step 4", "step 5"]
    );
    for step in &steps {
        let inside = within(step, &parts);
        let sum: u64 = inside.iter().map(|bar| bar.end - bar.begin).sum();
        assert_eq!(sum, step.end - step.begin, "{step:?} {inside:?}");
        let count = |name: &str| inside.iter().filter(|bar| bar.name == name).count();
        assert_eq!(
            ["input", "upload", "execute"].map(count),
            [1; 3],
            "{inside:?}"
        );
        // The step before is read once this one is on its way.
        let place = |name: &str| inside.iter().position(|bar| bar.name == name);
        if let Some(read_back) = place("read back") {
            assert!(place("upload") < place("execute"), "{inside:?}");
            assert!(place("execute") < Some(read_back), "{inside:?}");
        }
        // After every second step a checkpoint is saved, for which the step itself is read back too.
        let even = ["step 2", "step 4"].contains(&step.name.as_str());
        assert_eq!(count("save"), usize::from(even), "{inside:?}");
    }
    // One follows the other, but for the epoch's end between steps 4 and 5.
    assert_eq!(
        [steps[0].end, steps[1].end, steps[2].end],
        [steps[1].begin, steps[2].begin, steps[3].begin]
    );
    let between = Bar {
        name: String::new(),
        begin: steps[3].end,
        end: steps[4].begin,
    };
    let of_epoch: Vec<_> = within(&between, &parts)
        .iter()
        .map(|bar| bar.name.as_str())
        .collect();
    for name in ["evaluation", "save", "report"] {
        assert!(of_epoch.contains(&name), "{name} {of_epoch:?}");
    }
}

#[test]
fn a_run_that_ends_before_writes_what_it_has_and_a_new_one_in_its_place_removes_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let options = "--epochs 1 --steps-per-epoch 4 --eval-steps 1 --max-steps 2 --profile 100";
    succeed(&quick_run(&run, options));
    assert_eq!(names(&bars(&run, "step")), ["step 1", "step 2"]);
    // A resumed run records its own steps.
    let resume = ["--resume", "--out-dir", text(&run), "--max-steps", "3"];
    succeed(&resume);
    assert_eq!(names(&bars(&run, "step")), ["step 3"]);
    succeed(&quick_run(&run, "--overwrite --max-steps 1 --eval-steps 1"));
    assert!(!run.join("profile.json").exists());
}

/// The part of TensorFlow's `xplane.proto` that names what was recorded.
#[derive(Clone, PartialEq, prost::Message)]
struct XSpace {
    #[prost(message, repeated, tag = "1")]
    planes: Vec<XPlane>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct XPlane {
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "3")]
    lines: Vec<XLine>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct XLine {
    #[prost(string, tag = "2")]
    name: String,
}

/// The files in which TensorBoard's profile plugin finds the profiles of the run in `folder`.
fn device_profiles(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder.join("events/plugins/profile/steps")) else {
        return Vec::new();
    };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_a_plugin_s_profiler_recorded_lies_where_tensorboard_looks() {
    let Some(plugin_itself) = cpu_plugin() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let include = Path::new(&std::env::var("XLA_EXTENSION_DIR").unwrap()).join("include");
    let with_profiler = folder.path().join("profiling_pjrt.so");
    let flags = ["-std=c++17", "-I", text(&include)];
    compile("c++", "profiling_plugin.cc", &with_profiler, &flags);
    let run = folder.path().join("run");
    let log_of = |plugin: &Path, options: &str, device: &str| {
        let args = quick_run(&run, options);
        let mut command = program(&[&args[..], &["--plugin", text(plugin)]].concat());
        command
            .env("REAL_PLUGIN", &plugin_itself)
            .env("RECORDED_AS", device);
        let output = command.output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{log}");
        log
    };
    let options = "--max-steps 4 --eval-steps 1 --profile 2";
    let log = log_of(&with_profiler, options, "first");
    assert!(log.contains("tensorboard --logdir"), "{log}");
    assert_eq!(names(&bars(&run, "step")), ["step 1", "step 2"]);
    let files = device_profiles(&run);
    assert_eq!(files.len(), 1);
    assert!(text(&files[0]).ends_with(".xplane.pb"), "{files:?}");
    let space = XSpace::decode(&fs::read(&files[0]).unwrap()[..]).unwrap();
    assert_eq!(space.planes[0].name, "/device:CUSTOM:first");
    assert_eq!(space.planes[0].lines[0].name, "started 1, stopped 1");

    // TensorBoard keeps what it has shown.
    let is_shown = shown_devices(&run).inspect(|devices| assert_eq!(devices, &["first"]));
    let kept = files[0].with_file_name("cache_version.txt");
    match is_shown {
        Some(_) => assert!(kept.is_file()),
        None => fs::write(&kept, "1").unwrap(),
    }
    log_of(&with_profiler, &format!("--overwrite {options}"), "second");
    assert!(!kept.exists());
    if let Some(devices) = shown_devices(&run) {
        assert_eq!(devices, ["second"]);
    }

    // The plugin itself has no profiler, and says so.
    let options = "--overwrite --max-steps 1 --eval-steps 1 --profile 1";
    let log = log_of(&plugin_itself, options, "");
    assert!(log.contains("it has no extension Profiler"), "{log}");
    let profiles = device_profiles(&run).into_iter();
    let profiles: Vec<_> = profiles
        .filter(|file| text(file).ends_with(".xplane.pb"))
        .collect();
    assert_eq!(profiles, Vec::<PathBuf>::new());
}

/// The devices with a step of 2 ms in the profile that TensorBoard shows of the run in `folder`; `None` where its profile
/// plugin is not there.
fn shown_devices(folder: &Path) -> Option<Vec<String>> {
    let events = tensorboard::shown_events(&folder.join("events"))?;
    let name = |step: &Value| {
        let device = tensorboard::process_of(step, &events);
        let (_, name) = device.split_once("/device:CUSTOM:").unwrap();
        name.to_owned()
    };
    let is_step = |event: &&Value| event["name"] == "a step" && event["dur"] == 2000;
    Some(events.iter().filter(is_step).map(name).collect())
}
