//! Weights of PyTorch give PyTorch's logits. tests/fixtures/make_pytorch_fixtures.py has made both, and those of torchvision's
//! networks make_torchvision_fixtures.py.

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use program::runs::{checkpoints, quick_run};
use program::{fail, predict, run, succeed, text};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

const IMAGES: usize = 4;
const CLASSES: usize = 10;
/// The options of the network of that name.
const V1_BASIC: &str = "--model custom-v1 --block basic --stage-units 2,1,1,1 --widths 8,16,16,32 --image-size 32 --dataset npz";

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch");
    folder.join(name)
}

/// The logits in NumPy's file at `path`.
fn logits(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    // The values come last.
    let (values, _) = bytes[bytes.len() - IMAGES * CLASSES * 4..].as_chunks();
    values
        .iter()
        .map(|value| f32::from_le_bytes(*value))
        .collect()
}

/// Imports the file at `path` with `options` to `out`, and returns what was printed.
fn import(path: &Path, options: &str, out: &Path) -> String {
    let mut words = vec!["import", "--from", text(path), "--out-dir", text(out)];
    words.extend(options.split(' '));
    succeed(&words)
}

#[test]
fn imported_weights_give_the_logits_of_pytorch() {
    let images = fixture("images.npz");
    for (name, options, said) in [
        (
            "resnet_v2_11",
            "--depth 11 --dataset npz",
            "ResNet-11 v2, 10 classes",
        ),
        (
            "fast_16_32_16",
            "--model fast --widths 16,32,16 --dataset npz",
            "Fast-16-32-16, 10 classes",
        ),
        (
            "v1_basic",
            V1_BASIC,
            "Custom-v1-basic-2-1-1-1-of-8-16-16-32, 10 classes",
        ),
        (
            "v1_bottleneck",
            "--model custom-v1 --block bottleneck --stage-units 1,1,1,1 --widths 32,64,64,128 --image-size 32 --dataset npz",
            "Custom-v1-bottleneck-1-1-1-1-of-32-64-64-128, 10 classes",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (out, file) = (folder.path().join("run"), folder.path().join("logits.npy"));
        let printed = import(&fixture(&format!("{name}.safetensors")), options, &out);
        assert!(printed.contains(said), "{printed}");
        let from = ["eval", "--device", "cpu", "--checkpoint", text(&out)];
        let data = ["--data-dir", text(&images), "--dump-logits", text(&file)];
        succeed(&[&from[..], &data].concat());
        let (got, expected) = (logits(&file), logits(&fixture(&format!("{name}.npy"))));
        let largest = expected
            .iter()
            .fold(0f32, |most, logit| most.max(logit.abs()));
        for (got, expected) in got.iter().zip(&expected) {
            let difference = (got - expected).abs() / largest;
            assert!(difference < 1e-5, "{name}: {got}, PyTorch {expected}");
        }
    }
}

#[test]
fn a_picture_gets_the_probabilities_of_torchvision() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    import(&fixture("v1_basic.safetensors"), V1_BASIC, &out);
    let picture = fixture("image.png");
    let gallery = folder.path().join("gallery.png");
    let printed = predict(&out, &["--out", text(&gallery), text(&picture)]);
    let logits = logits(&fixture("v1_basic.npy"));
    // Of the last image.
    let logits = logits[(IMAGES - 1) * CLASSES..].iter();
    let exponentials: Vec<f64> = logits.map(|logit| f64::from(*logit).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    let predictions = printed[0]["predictions"].as_array().unwrap();
    assert!(predictions.len() > 1, "{printed:?}");
    for prediction in predictions {
        let class: usize = prediction["class"].as_str().unwrap().parse().unwrap();
        let got = prediction["probability"].as_f64().unwrap();
        let expected = exponentials[class] / sum;
        assert!((got - expected).abs() < 1e-4, "{class}: {got} {expected}");
    }
}

#[test]
fn a_network_of_torchvisions_is_trained_on_behind_frozen_layers() {
    let folder = tempfile::tempdir().unwrap();
    let (imported, out) = (folder.path().join("imported"), folder.path().join("run"));
    let options = format!("{V1_BASIC} --mean 0.5,0.5,0.5");
    import(&fixture("v1_basic.safetensors"), &options, &imported);
    let first = imported.join("checkpoints/step-00000000.safetensors");
    let options = "--model custom-v1 --block basic --stage-units 2,1,1,1 --widths 8,16,16,32 --freeze-until stage2 \
                   --max-steps 2 --eval-steps 1";
    let mut words = quick_run(&out, options);
    words.extend(["--init-weights", text(&first)]);
    let output = run(&words);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("normalised  by ImageNet's mean"), "{said}");
    assert!(said.contains("another mean and deviation"), "{said}");

    let read = |path: &Path| fs::read(path).unwrap();
    let (before, after) = (read(&first), read(checkpoints(&out).last().unwrap()));
    let mean = |bytes: &[u8]| {
        let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
        let info = &header.metadata().as_ref().unwrap()["resnet-xla"];
        let info: serde_json::Value = serde_json::from_str(info).unwrap();
        info["normalization"]["mean"][0].as_f64().unwrap() as f32
    };
    assert_eq!((mean(&before), mean(&after)), (0.5 * 255.0, 0.485 * 255.0));
    let after = SafeTensors::deserialize(&after).unwrap();
    for (name, view) in SafeTensors::deserialize(&before).unwrap().tensors() {
        let frozen = ["conv_in/", "bn_in/", "stage1/", "stage2/"];
        let is_frozen = frozen.iter().any(|layer| name.starts_with(layer));
        let same = view.data() == after.tensor(&name).unwrap().data();
        assert_eq!(same, is_frozen, "{name}");
    }
}

/// Writes the tensors of a fixture as `change` leaves them: name, type, dimensions and bytes of each.
fn changed(
    folder: &Path,
    change: impl Fn(String, Dtype, Vec<usize>, Vec<u8>) -> Option<(String, Dtype, Vec<usize>, Vec<u8>)>,
) -> PathBuf {
    let bytes = fs::read(fixture("fast_16_32_16.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Vec<_> = tensors
        .tensors()
        .into_iter()
        .filter_map(|(name, view)| {
            change(
                name,
                view.dtype(),
                view.shape().to_vec(),
                view.data().to_vec(),
            )
        })
        .collect();
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let path = folder.join("changed.safetensors");
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    path
}

#[test]
fn names_behind_a_wrapper_are_the_same_names() {
    let folder = tempfile::tempdir().unwrap();
    let wrapped = changed(folder.path(), |name, dtype, shape, bytes| {
        Some((format!("module.{name}"), dtype, shape, bytes))
    });
    let options = "--model fast --widths 16,32,16";
    let (plain, of_wrapped) = (folder.path().join("plain"), folder.path().join("wrapped"));
    import(&fixture("fast_16_32_16.safetensors"), options, &plain);
    import(&wrapped, options, &of_wrapped);
    let tensors = |run: &Path| {
        let bytes = fs::read(run.join("checkpoints/step-00000000.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut all: Vec<_> = tensors
            .iter()
            .map(|(name, view)| (name.to_owned(), view.data().to_vec()))
            .collect();
        all.sort();
        all
    };
    assert!(tensors(&plain) == tensors(&of_wrapped));
}

#[test]
fn what_is_missing_misshapen_or_left_over_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let refused = |path: &Path, options: &str, code| {
        let mut words = vec!["import", "--from", text(path), "--out-dir", text(&out)];
        words.extend(options.split(' '));
        let message = fail(&words, code);
        assert!(!out.exists());
        message
    };
    let fast = "--model fast --widths 16,32,16";
    let path = changed(folder.path(), |name, dtype, shape, bytes| {
        match name.as_str() {
            "1.bn.bias" => None,
            "7.weight" => Some(("7.scale".to_owned(), dtype, shape, bytes)),
            _ => Some((name, dtype, shape, bytes)),
        }
    });
    let message = refused(&path, fast, 3);
    for part in [
        "changed.safetensors",
        "Fast-16-32-16 as benches/peers/fast_pytorch.py numbers them",
        "`1.bn.bias`: missing; `7.weight`: missing; `7.scale` belongs to no layer",
    ] {
        assert!(message.contains(part), "no {part} in {message}");
    }
    let whole = fixture("fast_16_32_16.safetensors");
    let message = refused(&whole, "--model fast --widths 16,48,16", 3);
    assert!(
        message.contains("`3.conv.weight`: expected [48, 16, 3, 3], got [32, 16, 3, 3]"),
        "{message}"
    );
    let message = refused(&fixture("resnet_v2_11.safetensors"), "--depth 20", 3);
    assert!(
        message.contains("`units.stage1_unit02.bn1.weight`: missing") && message.contains("; and "),
        "{message}"
    );
    let names = folder.path().join("names.txt");
    fs::write(&names, "a\nb\n").unwrap();
    let options = format!("{fast} --class-names {}", text(&names));
    assert!(refused(&whole, &options, 2).contains("got 2 names for 10 classes"));
    let pickle = folder.path().join("weights.pth");
    fs::write(&pickle, b"\x80\x02\x8a\nl\xfc\x9c").unwrap();
    assert!(refused(&pickle, fast, 3).contains("safetensors.torch.save_file"));
    assert!(refused(Path::new("gone.safetensors"), fast, 3).contains("gone.safetensors"));
}

#[test]
fn another_layout_of_version_1_is_refused_by_its_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (options, part) in [
        (
            "--model resnet18-v1",
            "ResNet-18-ImageNet v1 as torchvision and timm name them: `conv1.weight`: expected [64, 3, 7, 7], got [8, 3, 7, 7]",
        ),
        (
            "--model custom-v1 --block bottleneck --stage-units 2,1,1,1 --widths 32,64,64,128 --image-size 32",
            "`layer1.0.conv3.weight`: missing",
        ),
    ] {
        let file = fixture("v1_basic.safetensors");
        let mut words = vec!["import", "--from", text(&file), "--out-dir", text(&out)];
        words.extend(options.split(' '));
        let message = fail(&words, 3);
        assert!(message.contains(part), "no {part} in {message}");
        assert!(!out.exists());
    }
}

#[test]
fn networks_that_differ_whatever_their_names_are_refused_with_the_difference() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (tensors, model, parts) in [
        (
            &[
                "stem.conv.weight",
                "stages.0.blocks.0.norm1.weight",
                "stages.0.blocks.0.conv1.weight",
                "norm.weight",
                "head.fc.weight",
            ][..],
            "--model resnet50-v2",
            ["a resnetv2 of timm's", "stride in their 3x3 convolution"],
        ),
        (
            &[
                "module.conv1.weight",
                "module.bn1.weight",
                "module.layer1.0.conv1.weight",
                "module.layer1.0.bn1.weight",
                "module.fc.weight",
            ],
            "--model resnet18-v2",
            ["a ResNet of version 1", "--model resnet18-v1"],
        ),
    ] {
        let path = folder.path().join("theirs.safetensors");
        let zero = [0; 4];
        let views = tensors
            .iter()
            .map(|name| (name, TensorView::new(Dtype::F32, vec![1], &zero).unwrap()));
        fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        let mut words = vec!["import", "--from", text(&path), "--out-dir", text(&out)];
        words.extend("--image-size 64".split(' ').chain(model.split(' ')));
        let message = fail(&words, 3);
        for part in [parts[0], parts[1], "theirs.safetensors"] {
            assert!(message.contains(part), "no {part} in {message}");
        }
        assert!(!out.exists());
    }
}
