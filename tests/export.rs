//! Weights that leave the program and come back.

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use program::runs::quick_run;
use program::{succeed, text};
use safetensors::{Dtype, SafeTensors};

/// One step of the smallest network on the sample.
fn train(out_dir: &Path, more: &[&str]) {
    let step = quick_run(out_dir, "--max-steps 1 --eval-steps 1");
    succeed(&[&step, more].concat());
}

fn evaluate(checkpoint: &Path) -> String {
    let path = text(checkpoint);
    succeed(&[
        "eval",
        "--device",
        "cpu",
        "--dataset",
        "sample",
        "--checkpoint",
        path,
    ])
}

/// Trains a step in `folder` and exports it, with `more` arguments: the run, the bytes of its checkpoint, the exported
/// file, and what `export` printed.
fn export(folder: &Path, more: &[&str]) -> (PathBuf, Vec<u8>, PathBuf, String) {
    let (run, exported) = (folder.join("run"), folder.join("w.safetensors"));
    train(&run, &[]);
    let args = [
        "export",
        "--checkpoint",
        text(&run),
        "--out",
        text(&exported),
    ];
    let line = succeed(&[&args[..], more].concat());
    let checkpoint = fs::read(run.join("checkpoints/step-00000001.safetensors")).unwrap();
    (run, checkpoint, exported, line)
}

#[test]
fn an_exported_file_has_the_network_bit_for_bit_and_no_momentum() {
    let folder = tempfile::tempdir().unwrap();
    let (run, checkpoint, exported, line) = export(folder.path(), &[]);
    // 55 tensors of depth 11, and their parameters by Keras's count.
    assert!(
        line.ends_with("ResNet-11 v2, step 1, 55 tensors, 128,122 parameters\n"),
        "{line}"
    );

    let bytes = fs::read(&exported).unwrap();
    let (ours, all) = (
        SafeTensors::deserialize(&bytes).unwrap(),
        SafeTensors::deserialize(&checkpoint).unwrap(),
    );
    assert_eq!(ours.len(), 55);
    for (name, view) in ours.tensors() {
        assert!(!name.starts_with("momentum/"));
        assert!(view == all.tensor(&name).unwrap(), "{name} differs");
    }
    assert_eq!(evaluate(&exported), evaluate(&run));
}

#[test]
fn training_starts_from_weights_that_another_program_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let (run, foreign) = (
        folder.path().join("run"),
        folder.path().join("k.safetensors"),
    );
    // Keras's weights, from the fixture of tests/reference.rs: without any metadata of ours.
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let bytes = fs::read(fixture.join("keras_depth11.safetensors")).unwrap();
    let fixture = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = fixture.tensors().into_iter().filter_map(|(name, view)| {
        assert!(view.dtype() == Dtype::F32 || name == "labels");
        Some((name.strip_prefix("initial/")?.to_owned(), view))
    });
    fs::write(&foreign, safetensors::serialize(tensors, None).unwrap()).unwrap();

    // A learning rate too small to move an f32 weight keeps the weights that were loaded.
    train(&run, &["--init-weights", text(&foreign), "--lr", "1e-30"]);
    let bytes = fs::read(run.join("checkpoints/step-00000001.safetensors")).unwrap();
    let trained = SafeTensors::deserialize(&bytes).unwrap();
    for (name, view) in trained.tensors() {
        if name.starts_with("momentum/") || name.contains("moving_") {
            continue;
        }
        let loaded = fixture.tensor(&format!("initial/{name}")).unwrap();
        assert!(view == loaded, "{name} differs");
    }
}

#[test]
fn an_exported_file_in_bf16_has_half_the_bytes_and_the_nearest_values() {
    let folder = tempfile::tempdir().unwrap();
    let (_, checkpoint, exported, _) = export(folder.path(), &["--bf16"]);

    let bytes = fs::read(&exported).unwrap();
    let all = SafeTensors::deserialize(&checkpoint).unwrap();
    let ours = SafeTensors::deserialize(&bytes).unwrap();
    for (name, view) in ours.tensors() {
        assert_eq!(view.dtype(), Dtype::BF16, "{name}");
        let exact = all.tensor(&name).unwrap();
        assert_eq!(view.shape(), exact.shape());
        assert_eq!(2 * view.data().len(), exact.data().len());
        let (halves, wholes) = (view.data().as_chunks().0, exact.data().as_chunks().0);
        for (half, whole) in halves.iter().zip(wholes) {
            let stored = f32::from_bits(u32::from(u16::from_le_bytes(*half)) << 16);
            let value = f32::from_le_bytes(*whole);
            // Half a unit of the last of eight digits.
            assert!(
                (stored - value).abs() <= value.abs() / 256.0,
                "{name}: {stored} {value}"
            );
        }
    }
    // Nothing of the machine it was made on.
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let info = &header.metadata().as_ref().unwrap()["resnet-xla"];
    assert!(!info.contains(text(folder.path())), "{info}");
    assert!(evaluate(&exported).contains("\nacc: "));
}
