//! Schedules of the learning rate, from the command line to what a run leaves.

mod program;

use std::fs;
use std::path::Path;

use program::runs::{assert_same_end, copy_folder, finish, quick_run, run_with_checkpoints};
use program::{fail, program, run, succeed, text};
use resnet_xla::cli::arguments;
use resnet_xla::cli::config::{Config, ConfigError};

/// Of the runs here.
const LR: f64 = 0.05;

fn read(run: &Path, name: &str) -> String {
    fs::read_to_string(run.join(name)).unwrap()
}

/// The column `lr` of `history.csv`: the rate of the last step of each epoch.
fn rates(run: &Path) -> Vec<f64> {
    let history = read(run, "history.csv");
    let rows = history.lines().skip(1);
    rows.map(|row| row.split(',').nth(5).unwrap().parse().unwrap())
        .collect()
}

fn assert_close(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{got:?}");
    for (got, expected) in got.iter().zip(expected) {
        assert!((got / expected - 1.0).abs() < 1e-12, "{got} for {expected}");
    }
}

/// Resumes with `more` arguments, which must succeed, and returns what was said.
fn go_on(path: &Path, more: &[&str]) -> String {
    let output = run(&[&["--resume", "--out-dir", text(path)], more].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn one_cycle_has_its_rates_and_goes_on_with_them_wherever_it_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let one_cycle = ["--lr-schedule", "one-cycle", "--warmup", "5"];
    finish(&whole, &one_cycle);
    // 18 steps in 3 epochs; 13 of them come after the warm-up. The last of the epochs have 13, 7 and 1 of these to go,
    // their own among them.
    assert_close(&rates(&whole), &[LR, LR * 7.0 / 13.0, LR / 13.0]);
    assert!(read(&whole, "report.html").contains(r#""lr_moves":true"#));
    assert!(read(&whole, "plots/loss.svg").contains("0 to 0.05"));
    // Within the warm-up, and within an epoch after it.
    for stop in ["3", "9"] {
        let run = folder.path().join(stop);
        finish(&run, &[&one_cycle[..], &["--max-steps", stop]].concat());
        if stop == "3" {
            assert_close(&rates(&run), &[LR * 3.0 / 5.0]);
        }
        let said = go_on(&run, &["--epochs", "3"]);
        assert!(!said.contains("warning"), "{said}");
        assert_same_end(&run, &whole);
    }
}

#[test]
fn a_cosine_goes_on_with_its_rates_though_a_line_of_its_settings_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, run) = (folder.path().join("whole"), folder.path().join("run"));
    let cosine = ["--lr-schedule", "cosine", "--warmup", "2"];
    finish(&whole, &cosine);
    // 16 steps come after the warm-up of 2; before the last steps of the epochs, which are steps 5, 11 and 17 from 0, 3, 9
    // and 15 of them are behind.
    let expected = [3.0, 9.0, 15.0].map(|behind: f64| {
        let angle = std::f64::consts::PI * behind / 16.0;
        LR / 2.0 * (1.0 + angle.cos())
    });
    assert_close(&rates(&whole), &expected);

    finish(&run, &[&cosine[..], &["--max-steps", "9"]].concat());
    let config = read(&run, "config.toml");
    let cut = config.replace("warmup = 2\n", "");
    assert_ne!(cut, config);
    fs::write(run.join("config.toml"), cut).unwrap();
    let said = go_on(&run, &["--max-steps", "18"]);
    assert!(said.contains("cut short: it has no `warmup`"), "{said}");
    assert_same_end(&run, &whole);
}

#[test]
fn a_run_from_before_there_were_schedules_goes_on_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/run-before-rooms");
    copy_folder(&old, &run);
    let said = go_on(&run, &["--epochs", "3"]);
    assert!(!said.contains("warning"), "{said}");
    assert!(!run.join("config.toml.damaged").exists());
    assert_close(&rates(&run), &[0.01; 3]);
    let config = read(&run, "config.toml");
    assert!(config.contains("lr-schedule = \"step\""), "{config}");
}

#[test]
fn the_start_block_says_how_the_rate_goes() {
    let folder = tempfile::tempdir().unwrap();
    for (options, line) in [
        ("--lr-drops 1:0.01", "rate        0.05, 0.01 from epoch 2\n"),
        ("--warmup 3", "rate        0.05; 3 steps of warm-up\n"),
        (
            "--lr-schedule cosine",
            "rate        0.05, along half a cosine to 0 at step 18\n",
        ),
        (
            "--lr-schedule one-cycle --warmup 5",
            "rate        0.05, in a straight line to 0 at step 18; 5 steps of warm-up\n",
        ),
        ("--lr-schedule constant", "rate        0.05\n"),
    ] {
        let out = folder.path().join("run");
        let options: Vec<_> = options
            .split(' ')
            .chain(["--max-steps", "1", "--overwrite"])
            .collect();
        let output = program(&run_with_checkpoints(&out))
            .args(options)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.contains(line),
            "no {line} in {said}"
        );
    }
}

#[test]
fn what_does_not_fit_together_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (options, parts) in [
        (
            // Known from the options alone.
            "--epochs 3 --steps-per-epoch 6 --warmup 18",
            &[
                "--warmup",
                "0 to 17",
                "18 steps of 3 epochs of 6 steps",
                "got 18",
            ][..],
        ),
        (
            // The sample has 2,000 images: 250 batches of 8. Known once it is read.
            "--epochs 2 --lr-schedule one-cycle --warmup 500",
            &[
                "--warmup",
                "0 to 499",
                "500 steps of 2 epochs of 250 steps",
                "got 500",
            ],
        ),
        (
            "--lr-schedule cosine --lr-drops 2:0.01",
            &[
                "--lr-drops 2:0.01",
                "--lr-schedule step",
                "is cosine",
                "none",
            ],
        ),
        (
            "--lr-schedule constant --lr-drops 2:0.01",
            &["--lr-drops 2:0.01", "--lr-schedule step", "is constant"],
        ),
        ("--lr-schedule cosin", &["cosin", "one-cycle"]),
        ("--warmup -1", &["--warmup", "from 0 to 99999999999999"]),
    ] {
        let message = fail(&quick_run(&out, options), 2);
        for part in parts {
            assert!(message.contains(part), "no {part} in {message}");
        }
        assert!(!out.exists(), "{options}");
    }
}

fn resolve(options: &[&str]) -> Result<Config, ConfigError> {
    let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
    Config::resolve(&arguments::parse_training(&options).unwrap())
}

#[test]
fn the_drops_of_a_preset_belong_to_its_schedule() {
    assert_eq!(
        resolve(&[]).unwrap().lr_drops.to_string(),
        "80:0.01,120:0.001"
    );
    for schedule in ["cosine", "one-cycle", "constant"] {
        let option = format!("--lr-schedule={schedule}");
        let config = resolve(&[&option]).unwrap();
        assert!(config.lr_drops.is_empty(), "{schedule}");
        assert_eq!(resolve(&[&option, "--lr-drops=none"]).unwrap(), config);
        // What is saved can be read, and its schedule can be changed back.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        fs::write(&path, config.to_toml().unwrap()).unwrap();
        let file = format!("--config={}", text(&path));
        assert_eq!(resolve(&[&file]).unwrap().lr_schedule, config.lr_schedule);
        resolve(&[&file, "--lr-schedule=step", "--lr-drops=80:0.01"]).unwrap();
    }
}

#[test]
fn a_run_keeps_its_schedule_and_says_what_another_length_makes_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let options = "--epochs 2 --steps-per-epoch 4 --eval-steps 1 --lr-schedule cosine --warmup 2";
    succeed(&quick_run(&run, options));
    for (option, value, field) in [
        (
            "--lr-schedule",
            "constant",
            "`lr-schedule` was \"cosine\" and is now \"constant\"",
        ),
        ("--warmup", "3", "`warmup` was 2 and is now 3"),
    ] {
        let message = fail(&["--resume", "--out-dir", text(&run), option, value], 2);
        assert!(message.contains(field), "no {field} in {message}");
    }
    let said = go_on(&run, &["--epochs", "3"]);
    let warning = "--epochs was 2 and is now 3: the schedule cosine ends with the last epoch";
    assert!(said.contains(warning), "no {warning} in {said}");
    // The last steps of 2 epochs of 4 have the rates of 8 steps, the next one's those of 12.
    let rate = |behind: f64, falling: f64| {
        let angle = std::f64::consts::PI * behind / falling;
        LR / 2.0 * (1.0 + angle.cos())
    };
    assert_close(
        &rates(&run),
        &[rate(1.0, 6.0), rate(5.0, 6.0), rate(9.0, 10.0)],
    );

    // A constant rate has no end to move.
    let run = folder.path().join("constant");
    let options = "--epochs 1 --steps-per-epoch 2 --eval-steps 1 --lr-schedule constant";
    succeed(&quick_run(&run, options));
    let said = go_on(&run, &["--epochs", "2"]);
    assert!(!said.contains("--epochs was"), "{said}");
}
