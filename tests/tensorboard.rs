//! The event files of a run, read back by TensorBoard itself.
//!
//! The Python with TensorBoard is `python3`, or the one that `TENSORBOARD_PYTHON` names.

mod program;

use std::fs;
use std::path::Path;
use std::process::Command;

use program::runs::quick_run;
use program::succeed;
use serde_json::{Value, json};

/// What TensorBoard's reader finds in `folder`; `None` where there is no TensorBoard.
fn read_events(folder: &Path) -> Option<Value> {
    let python = std::env::var("TENSORBOARD_PYTHON").unwrap_or("python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_events.py");
    let output = match Command::new(&python).arg(script).arg(folder).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: cannot start {python}: {error}");
            return None;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) {
        println!("skipped: {}; try TENSORBOARD_PYTHON", errors.trim());
        return None;
    }
    assert!(output.status.success(), "{errors}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
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
