//! A run that was stopped, however roughly, ends as the run that never was.

mod program;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cpu_kernels::isa::{self, Isa};
use program::plugins::cpu_plugin;
use program::runs::{
    assert_same_end, checkpoints, finish, quick_run, run_with_checkpoints, signal, start,
    wait_for_checkpoint,
};
use program::shims::HeldWrite;
use program::{fail, program, program_as_shipped, snapshot, succeed, text};
use resnet_xla::run::checkpoint::load_newest;
use xla_graphs::ops::Lowering;
use xla_graphs::{Architecture, Layout, ResNet};

#[test]
fn both_signals_save_and_end_with_their_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let (run, reference) = (folder.path().join(name), folder.path().join("reference"));
        // It ends by the signal or not at all, however late that comes.
        let endless = ["--epochs", "100000", "--checkpoint-every", "1000000"];
        let mut child = start(&run, &endless);
        wait_for_checkpoint(&run, &mut child);
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(!run.join("result.json").exists());
        let (_, info) = load_newest(&run.join("checkpoints"), &layout_of(11)).unwrap();
        // An epoch has 6 steps; two more are left.
        let epochs = (info.position.step / 6 + 2).to_string();
        succeed(&["--resume", "--epochs", &epochs, "--out-dir", text(&run)]);
        finish(&reference, &["--epochs", &epochs, "--overwrite"]);
        assert_same_end(&run, &reference);
    }
}

fn layout_of(depth: usize) -> Layout {
    let architecture = Architecture::resnet_v2(depth).unwrap();
    let network = ResNet::new(&architecture, 10, Lowering::Dots).unwrap();
    Layout::new(network.tensors(), &["momentum"])
}

/// `RESNET_XLA_SIGNAL_ROUNDS=5 cargo test --release --test resume at_depth_164 -- --nocapture` prints how long it takes.
#[test]
fn at_depth_164_a_signal_in_any_part_of_a_step_saves_and_ends_the_run() {
    let Ok(rounds) = std::env::var("RESNET_XLA_SIGNAL_ROUNDS") else {
        println!("skipped: RESNET_XLA_SIGNAL_ROUNDS says how often to end a run of ResNet-164");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let layout = layout_of(164);
    for round in 0..rounds.parse().unwrap() {
        let (name, code) = [("TERM", 143), ("INT", 130)][round % 2];
        let before = checkpoints(&run).pop();
        let mut child = start_at_depth_164(&run, round > 0);
        while checkpoints(&run).pop() == before {
            assert!(child.try_wait().unwrap().is_none(), "the run has ended");
            sleep(Duration::from_millis(5));
        }
        // Steps take 1.5 s and more.
        sleep(Duration::from_millis(370 * round as u64));
        signal(&child, name);
        let sent = Instant::now();
        let output = child.wait_with_output().unwrap();
        let took = sent.elapsed();
        assert_eq!(output.status.code(), Some(code));
        let (_, info) = load_newest(&run.join("checkpoints"), &layout).unwrap();
        let step = info.position.step;
        let message = format!("SIG{name} received: the state after step {step} is saved");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(&message), "no {message} in {errors}");
        println!("SIG{name}: saved at step {step} and ended after {took:.1?}");
    }
}

/// Compiled as it is for users: the time is that of theirs.
fn start_at_depth_164(run: &Path, resume: bool) -> Child {
    let options = "--depth 164 --batch-size 128 --checkpoint-every 3";
    let mut command = program_as_shipped(&quick_run(run, options));
    command.args(resume.then_some("--resume"));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn a_second_signal_ends_the_run_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let disk = HeldWrite::new();
    let mut command = program(&run_with_checkpoints(&run));
    command.args(["--epochs", "100000", "--checkpoint-every", "1"]);
    // The second checkpoint is never written: with one signal, which saves, the run would not end.
    disk.preload(&mut command, "/checkpoints/", 1, 100);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    assert!(disk.wait(&mut child), "the run has ended");
    let saved = checkpoints(&run);
    assert_eq!(saved.len(), 1);
    // Two different ones: of two equal ones that wait, the system delivers one.
    signal(&child, "TERM");
    signal(&child, "INT");
    // Either may be delivered first.
    let code = child.wait().unwrap().code();
    assert!(code == Some(130) || code == Some(143), "{code:?}");
    assert_eq!(checkpoints(&run), saved);
}

#[test]
fn a_signal_before_training_begins_ends_the_program_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let disk = HeldWrite::new();
    let mut command = program(&run_with_checkpoints(&run));
    // Written before anything compiles: there is nothing to save yet, and will not be.
    disk.preload(&mut command, "env.json", 0, 0);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    assert!(disk.wait(&mut child), "the run has ended");
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(checkpoints(&run).is_empty());
}

#[test]
fn a_run_cut_short_by_max_steps_goes_on_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    let (reference, run) = (folder.path().join("reference"), folder.path().join("run"));
    finish(&reference, &[]);
    finish(&run, &["--max-steps", "9"]);
    succeed(&["--resume", "--max-steps", "18", "--out-dir", text(&run)]);
    assert_same_end(&run, &reference);
}

#[test]
fn a_run_stopped_before_its_first_evaluation_goes_on_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let (reference, run) = (folder.path().join("reference"), folder.path().join("run"));
    finish(&reference, &["--max-steps", "4"]);
    finish(&run, &["--max-steps", "4"]);
    // What a signal in the evaluation leaves: all steps, and neither a record of the epoch nor a result.
    let history = fs::read_to_string(run.join("history.csv")).unwrap();
    let (header, _) = history.split_once('\n').unwrap();
    fs::write(run.join("history.csv"), format!("{header}\n")).unwrap();
    fs::remove_file(run.join("result.json")).unwrap();
    succeed(&["--resume", "--out-dir", text(&run)]);
    assert_same_end(&run, &reference);
}

#[test]
fn a_finished_run_says_so_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    finish(&run, &["--epochs", "1"]);
    let content = || {
        let mut all = snapshot(&run);
        // The start is logged, and the lock names the process.
        for name in ["train.log", "run.lock"] {
            all.remove(&run.join(name)).expect(name);
        }
        all
    };
    let before = content();
    assert!(before.contains_key(&run.join("result.json")));
    let output = program(&["--resume", "--out-dir", text(&run)]).output();
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("is finished"), "{errors}");
    assert!(content() == before);
}

#[test]
fn there_must_be_something_to_resume_and_its_settings_must_fit() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let message = fail(&["--resume", "--out-dir", text(&run)], 2);
    assert!(message.contains("holds no checkpoint"), "{message}");
    finish(&run, &["--max-steps", "1"]);
    for (option, value, change) in [
        ("--lr", "0.3", "`lr` was 0.05 and is now 0.3;"),
        ("--depth", "20", "`depth` was 11 and is now 20;"),
        ("--seed", "9", "`seed` was 0 and is now 9;"),
    ] {
        let message = fail(&["--resume", "--out-dir", text(&run), option, value], 2);
        assert!(message.contains(change), "{message}");
    }
    // How the units are traced is no matter of what they compute.
    let options = "--resume --max-steps 2 --units loop";
    succeed(&quick_run(&run, options));
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("units = \"loop\""), "{config}");
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (reference, run) = (folder.path().join("reference"), folder.path().join("run"));
    finish(&reference, &[]);
    finish(&run, &["--max-steps", "10"]);
    let all = checkpoints(&run);
    let newest = all.last().unwrap();
    let whole = fs::read(newest).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for damaged in [&whole[..whole.len() - 1], &whole[..5], &[], &flipped] {
        let copy = folder.path().join("copy");
        copy_run(&run, &copy);
        let path = copy.join("checkpoints").join(newest.file_name().unwrap());
        fs::write(&path, damaged).unwrap();
        let output = program(&["--resume", "--max-steps", "18", "--out-dir", text(&copy)])
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let name = newest.file_name().unwrap().to_str().unwrap();
        assert!(errors.contains(name), "{errors}");
        assert_same_end(&copy, &reference);
        fs::remove_dir_all(&copy).unwrap();
    }
    // With none left whole, the run does not start afresh.
    for path in &all {
        fs::write(path, "damaged").unwrap();
    }
    fail(
        &["--resume", "--max-steps", "18", "--out-dir", text(&run)],
        3,
    );
}

fn copy_run(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("checkpoints")).unwrap();
    for file in ["config.toml", "history.csv", "result.json"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    for path in checkpoints(from) {
        fs::copy(
            &path,
            to.join("checkpoints").join(path.file_name().unwrap()),
        )
        .unwrap();
    }
}

#[test]
fn a_run_that_goes_on_with_other_instructions_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let best = Isa::of_processor();
    if best == Isa::Generic {
        println!("skipped: this processor has one instruction set of those that the program knows");
        return;
    }
    let said = |args: &[&str], isa: Isa| {
        let output = program(args)
            .env(isa::VARIABLE, isa.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    };
    said(&quick_run(&run, "--max-steps 1 --eval-steps 1"), Isa::Avx2);
    let resume = |steps| ["--resume", "--out-dir", text(&run), "--max-steps", steps];
    let warning = "was computed on avx2 and now continues on generic";
    assert!(!said(&resume("2"), Isa::Avx2).contains("now continues"));
    let warned = said(&resume("3"), Isa::Generic);
    assert!(warned.contains(warning), "{warned}");

    // A plugin without the kernels.
    let Some(plugin) = cpu_plugin() else { return };
    let on_plugin = [&resume("4")[..], &["--plugin", text(&plugin)]].concat();
    let warned = said(&on_plugin, Isa::Generic);
    let warning = "was computed on generic and now continues on cpu-plugin";
    assert!(warned.contains(warning), "{warned}");
}

#[test]
fn a_second_process_on_the_same_folder_is_refused_with_the_pid() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut child = start(&run, &["--epochs", "100000"]);
    wait_for_checkpoint(&run, &mut child);
    for mode in ["--resume", "--overwrite"] {
        let message = fail(&["--preset", "quick", mode, "--out-dir", text(&run)], 2);
        assert!(
            message.contains(&format!("process {}", child.id())),
            "{message}"
        );
    }
    signal(&child, "KILL");
    child.wait().unwrap();
    finish(&run, &["--overwrite", "--max-steps", "1"]);
}
