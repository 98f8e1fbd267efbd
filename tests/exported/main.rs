//! Exported models give the program's logits, computed by interpreters that share nothing with it but ONNX's messages,
//! which have a fixture of their own. scripts/check_exported.py checks the same by ONNX's and Keras's own programs.

#[path = "../program/mod.rs"]
mod program;

mod array;
mod hdf5;
mod keras;
mod onnx;
mod order;
mod stablehlo;
mod zip;

use std::fs;
use std::path::{Path, PathBuf};

use array::Array;
use program::runs::quick_run;
use program::{fail, succeed, text};
use prost::Message;
use resnet_xla::export::onnx::messages::{Model, Size, Value};

const IMAGES: usize = 8;
const CLASSES: usize = 10;
const SIDE: usize = 32;

/// Two steps of a network, and its logits of the first test images.
struct Trained {
    folder: tempfile::TempDir,
    logits: Vec<f32>,
}

impl Trained {
    /// The network that `options` describe.
    fn new(options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (run, file) = (folder.path().join("run"), folder.path().join("logits.npy"));
        let options = format!("--max-steps 2 --eval-steps 1 {options}");
        succeed(&quick_run(&run, &options));
        let mut eval = "eval --device cpu --steps 1 --batch-size 8"
            .split(' ')
            .collect::<Vec<_>>();
        eval.extend(["--checkpoint", text(&run), "--dump-logits", text(&file)]);
        succeed(&eval);
        let bytes = fs::read(&file).unwrap();
        // The values come last in a NumPy file.
        let (values, _) = bytes[bytes.len() - IMAGES * CLASSES * 4..].as_chunks();
        let logits = values.iter().map(|value| f32::from_le_bytes(*value));
        let logits = logits.collect();
        Self { folder, logits }
    }

    fn export(&self, name: &str, more: &[&str]) -> Vec<u8> {
        let file = self.path(name);
        let run = self.path("run");
        let export = ["export", "--checkpoint", text(&run), "--out", text(&file)];
        let line = succeed(&[&export, more].concat());
        assert!(line.starts_with(text(&file)), "{line}");
        fs::read(&file).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn assert_same_logits(&self, logits: &Array) {
        assert_eq!(logits.dims, [IMAGES, CLASSES]);
        let largest = self
            .logits
            .iter()
            .fold(0f32, |most, logit| most.max(logit.abs()));
        for (got, expected) in logits.values.iter().zip(&self.logits) {
            let difference = (got - f64::from(*expected)).abs();
            assert!(difference <= 1e-5 * f64::from(largest), "{got} {expected}");
        }
    }
}

/// The first test images of the sample, as a user's program would have them: `[N, 32, 32, 3]`.
fn sample_images() -> Array {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/sample/test.bin");
    let area = SIDE * SIDE;
    let mut values = Vec::new();
    for record in fs::read(path).unwrap().chunks(1 + 3 * area).take(IMAGES) {
        for pixel in 0..area {
            let channels = [0, 1, 2].map(|channel| record[1 + channel * area + pixel]);
            values.extend(channels.map(f64::from));
        }
    }
    Array::new(vec![IMAGES, SIDE, SIDE, 3], values)
}

fn assert_all_give_the_same_logits(trained: &Trained) -> (Model, keras::Model, String) {
    let onnx = Model::decode(&*trained.export("model.onnx", &[])).unwrap();
    trained.assert_same_logits(&onnx::run(&onnx, sample_images()));
    let keras = keras::Model::read(&trained.export("model.keras", &[]));
    trained.assert_same_logits(&keras.run(&sample_images()));
    let text = trained.export("model.mlir", &["--batch-size", "8"]);
    let text = String::from_utf8(text).unwrap();
    trained.assert_same_logits(&stablehlo::run(&text, sample_images()));
    (onnx, keras, text)
}

/// Name, type of element and dimensions.
fn signature(values: &[Value]) -> (&str, i32, String) {
    let [value] = values else {
        panic!("{values:?}")
    };
    let tensor = value.kind.as_ref().unwrap().tensor.as_ref().unwrap();
    let dims = tensor.shape.as_ref().unwrap().dims.iter();
    let dims = dims.map(|dim| match dim.size.as_ref().unwrap() {
        Size::Fixed(size) => size.to_string(),
        Size::Free(name) => name.clone(),
    });
    let dims = dims.collect::<Vec<_>>().join(" ");
    (&value.name, tensor.element, dims)
}

#[test]
fn a_bottleneck_network_takes_raw_pixels_and_gives_the_programs_logits() {
    let trained = Trained::new("");
    let (onnx, keras, text) = assert_all_give_the_same_logits(&trained);

    let graph = onnx.graph.as_ref().unwrap();
    let (uint8, float) = (2, 1);
    let input = ("images", uint8, "N 32 32 3".to_owned());
    assert_eq!(signature(&graph.inputs), input);
    assert_eq!(
        signature(&graph.outputs),
        ("logits", float, "N 10".to_owned())
    );
    let names = onnx
        .properties
        .iter()
        .find(|entry| entry.key == "class_names");
    let names: Vec<String> = serde_json::from_str(&names.unwrap().value).unwrap();
    assert_eq!((names.len(), names[9].as_str()), (CLASSES, "truck"));
    assert_eq!(keras.metadata["class_names"][9], "truck");
    let first = text.lines().next().unwrap().strip_prefix("// ").unwrap();
    let facts: serde_json::Value = serde_json::from_str(first).unwrap();
    assert_eq!(facts["class_names"][9], "truck");
    let signature = "@main(%images: tensor<8x32x32x3xui8>) -> tensor<8x10xf32> {";
    assert!(text.lines().nth(2).unwrap().ends_with(signature));
}

#[test]
fn a_network_with_max_pooling_gives_the_programs_logits() {
    assert_all_give_the_same_logits(&Trained::new("--model fast --widths 16,32,16"));
}

#[test]
fn a_network_whose_shortcuts_have_no_weights_gives_the_programs_logits() {
    assert_all_give_the_same_logits(&Trained::new("--model resnet20-v2"));
}

#[test]
fn a_network_with_a_large_stem_and_pooling_behind_it_gives_the_programs_logits() {
    assert_all_give_the_same_logits(&Trained::new("--model resnet18-v2"));
}

#[test]
fn networks_of_version_1_give_the_programs_logits() {
    for stages in [
        "--block basic --widths 16,32 --stage-units 2,1",
        "--block bottleneck --widths 32,64 --stage-units 1,2",
    ] {
        let options = format!("--model custom-v1 {stages}");
        assert_all_give_the_same_logits(&Trained::new(&options));
    }
}

#[test]
fn what_a_format_does_not_take_is_refused() {
    let message = fail(&["export", "--out", "model.pb"], 2);
    assert!(
        message.contains(".safetensors, .keras, .onnx, .mlir"),
        "{message}"
    );
    let other = ["export", "--out", "model.safetensors", "--format", "onnx"];
    let message = fail(&other, 2);
    assert!(
        message.contains("expected a name that ends in .onnx"),
        "{message}"
    );
    let message = fail(&["export", "--out", "model.onnx", "--bf16"], 2);
    assert!(message.contains("--bf16"), "{message}");
    let message = fail(&["export", "--out", "model.onnx", "--batch-size", "2"], 2);
    assert!(message.contains("--batch-size"), "{message}");
}
