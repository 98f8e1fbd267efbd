//! The event files of a run, read back by TensorBoard itself.

mod program;

use std::fs;
use std::path::Path;

use program::runs::{checkpoints, quick_run};
use program::{succeed, tensorboard, text};
use serde_json::{Value, json};

/// What TensorBoard's reader finds in `folder`; `None` where there is no TensorBoard.
fn read_events(folder: &Path) -> Option<Value> {
    tensorboard::read("read_events.py", folder)
}

/// What the first two events of each file in `folder` are, by the order of the files: a version, and the step at which a
/// session starts. Decoded by hand: records and messages as TensorFlow describes them.
fn session_starts(folder: &Path) -> Vec<u64> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|path| session_start(&fs::read(path).unwrap()))
        .collect()
}

fn session_start(mut file: &[u8]) -> u64 {
    let mut record = || {
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let payload = &file[12..12 + length];
        file = &file[12 + length + 4..];
        payload
    };
    assert!(record().ends_with(b"brain.Event:2"));
    let event = record();
    // Field 1, eight bytes of time; field 2, the step, absent for 0; field 7, a message of two bytes: field 1 is START (1).
    assert_eq!(event[0], 0x09);
    let (step, rest) = match event[9] {
        0x10 => (u64::from(event[10]), &event[11..]),
        _ => (0, &event[9..]),
    };
    assert!(step < 128, "a step of one byte");
    assert_eq!(rest, [0x3a, 2, 0x08, 1]);
    step
}

#[test]
fn the_events_of_a_resumed_run_say_where_it_went_on_and_readers_drop_what_it_did_again() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let options =
        "--epochs 2 --steps-per-epoch 4 --eval-steps 1 --checkpoint-every 2 --keep 9 --log-every 2";
    succeed(&quick_run(&run, options));
    let events = run.join("events");
    let go_on_from = |step: u64| {
        for path in checkpoints(&run) {
            if path > run.join(format!("checkpoints/step-{step:08}.safetensors")) {
                fs::remove_file(path).unwrap();
            }
        }
        succeed(&["--resume", "--out-dir", text(&run)]);
    };
    // In the middle of the second epoch, then at the end of the first: what is of step 6, or of step 4, stays.
    go_on_from(6);
    let after_the_first = read_events(&events);
    go_on_from(4);
    assert_eq!(session_starts(&events), [0, 7, 5]);

    let (Some(after_the_first), Some(found)) = (after_the_first, read_events(&events)) else {
        return;
    };
    for found in [&after_the_first, &found] {
        assert_eq!(steps_of(found, "step/loss"), [2, 4, 6, 8]);
        for tag in ["train/loss", "val/acc", "perf/step_ms"] {
            assert_eq!(steps_of(found, tag), [4, 8], "{tag}");
        }
    }
    assert_eq!(
        found["histograms"]["dense/kernel"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    // The first batch of the run, and of the resumed one that counts.
    let batches: Vec<_> = found["images"]["train/first_batch"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| &image[0])
        .collect();
    assert_eq!(batches, [0, 5]);
}

/// The steps of the points under `tag` in what TensorBoard's reader `found`.
fn steps_of(found: &Value, tag: &str) -> Vec<u64> {
    let points = found["scalars"][tag].as_array().unwrap();
    points
        .iter()
        .map(|point| point[0].as_u64().unwrap())
        .collect()
}

/// The values under `tag` in the only file of `folder`, each with its step. Decoded by hand: a message's field 1 is the
/// tag, which field 2, a float, follows.
fn scalars(folder: &Path, tag: &str) -> Vec<(u64, f32)> {
    let path = fs::read_dir(folder).unwrap().next().unwrap().unwrap();
    let bytes = fs::read(path.path()).unwrap();
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let event = &rest[12..12 + length];
        rest = &rest[12 + length + 4..];
        let windows = event.windows(tag.len());
        if let Some(at) = windows
            .enumerate()
            .find(|(_, window)| *window == tag.as_bytes())
        {
            let value = &event[at.0 + tag.len()..];
            assert_eq!((event[9], value[0]), (0x10, 0x15));
            let value = f32::from_le_bytes(value[1..5].try_into().unwrap());
            found.push((event[10].into(), value));
        }
    }
    found
}

#[test]
fn between_the_ends_of_epochs_there_are_the_means_of_every_few_steps() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, options: &str| {
        let out = folder.path().join(name);
        let options = format!("--epochs 2 --steps-per-epoch 4 --eval-steps 1 {options}");
        succeed(&quick_run(&out, &options));
        out.join("events")
    };
    // A point an epoch: what is logged then is what the epoch has.
    let events = run("epochs", "--log-every 4 --lr-drops 1:0.005");
    for (of_steps, of_epochs) in [
        ("step/loss", "train/loss"),
        ("step/acc", "train/acc"),
        ("step/lr", "train/lr"),
    ] {
        let points = scalars(&events, of_steps);
        assert_eq!(points.len(), 2);
        assert_eq!(points, scalars(&events, of_epochs), "{of_steps}");
    }
    // Points at every third step of the run, across the ends of epochs; their means are those of all steps.
    let every_step = scalars(&run("steps", "--log-every 1"), "step/loss");
    let every_third = scalars(&run("thirds", "--log-every 3"), "step/loss");
    let steps: Vec<u64> = every_step.iter().map(|point| point.0).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6, 7, 8]);
    for (index, (step, mean)) in every_third.iter().enumerate() {
        assert_eq!(*step, 3 * (index as u64 + 1));
        let three = every_step[3 * index..][..3].iter().map(|point| point.1);
        assert!((three.sum::<f32>() / 3.0 - mean).abs() < 1e-5, "{mean}");
    }
    assert_eq!(every_third.len(), 2);
}

#[test]
fn tensorboard_finds_the_scalars_histograms_pictures_and_settings_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let options = "--epochs 2 --steps-per-epoch 4 --eval-steps 2";
    succeed(&quick_run(&out, options));
    let Some(found) = read_events(&out.join("events")) else {
        return;
    };

    let history = fs::read_to_string(out.join("history.csv")).unwrap();
    let rows: Vec<Vec<f64>> = history
        .lines()
        .skip(1)
        .map(|row| row.split(',').map(|field| field.parse().unwrap()).collect())
        .collect();
    for (tag, column) in [
        ("train/loss", 1),
        ("train/acc", 2),
        ("val/loss", 3),
        ("val/acc", 4),
        ("train/lr", 5),
        ("perf/images_per_sec", 7),
        ("perf/input_wait_frac", 8),
    ] {
        let points = found["scalars"][tag].as_array().unwrap();
        assert_eq!(points.len(), 2, "{tag}");
        for (epoch, point) in points.iter().enumerate() {
            assert_eq!(point[0], 4 * (epoch + 1), "{tag}");
            // Event files hold f32.
            assert_eq!(
                point[1].as_f64().unwrap() as f32,
                rows[epoch][column] as f32,
                "{tag}"
            );
        }
    }
    // 8 images a step.
    let step_ms = found["scalars"]["perf/step_ms"][1][1].as_f64().unwrap();
    assert!(
        (step_ms * rows[1][7] / 8000.0 - 1.0).abs() < 1e-5,
        "{step_ms}"
    );

    // 3 x 3 x 3 x 16, 3 x 3 x 16 x 16 and 256 x 10 values.
    for (kernel, values) in [
        ("conv_in/kernel", 432.0),
        ("stage1/unit01/conv2/kernel", 2304.0),
        ("dense/kernel", 2560.0),
    ] {
        assert_eq!(
            found["histograms"][kernel][1],
            json!([8, values, values]),
            "{kernel}"
        );
    }
    // A row of 8 images of 160 pixels; two rows of five with captions.
    assert_eq!(
        found["images"]["train/first_batch"],
        json!([[0, 1424, 199]])
    );
    let predictions = found["images"]["val/predictions"].as_array().unwrap();
    assert_eq!(predictions[1][1], 896);
    let config = fs::read_to_string(out.join("config.toml")).unwrap();
    assert_eq!(
        found["text"]["config"][0],
        format!("```toml\n{config}```\n")
    );
}
