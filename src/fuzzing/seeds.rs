//! Good input for each parser, to be damaged.

use std::collections::HashMap;
use std::io::Cursor;

use image::{DynamicImage, ImageFormat, RgbImage, RgbaImage};
use safetensors::{Dtype, tensor::TensorView};

use crate::cli::config::{Config, Preset};
use crate::data::RECORD_LEN;
use crate::device::coordinator::message::{self, Hello, Request};
use crate::run::checkpoint::CheckpointInfo;

/// Input that the parser called `name` accepts. An archive only has the right form, as its content would have
/// to have the official sums.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    match name {
        "records" => vec![records()],
        "picture" => pictures(),
        "npz" => vec![
            include_bytes!("../../tests/fixtures/arrays/plain.npz").to_vec(),
            include_bytes!("../../tests/fixtures/arrays/compressed.npz").to_vec(),
        ],
        "parquet" => vec![
            include_bytes!("../../tests/fixtures/parquet/hub/data/train-00000-of-00002.parquet")
                .to_vec(),
            include_bytes!("../../tests/fixtures/parquet/plain/train.parquet").to_vec(),
        ],
        "checkpoint" => vec![checkpoint(11)],
        "archive" => vec![tarball(&[(
            "cifar-10-batches-bin/test_batch.bin",
            &[0; 700],
        )])],
        "package" => vec![package()],
        "sheet" => vec![png(&DynamicImage::ImageRgb8(RgbImage::new(1024, 2)))],
        "config" => vec![settings(Preset::Keras), settings(Preset::Quick)],
        "history" => vec![history()],
        "message" => messages(),
        _ => Vec::new(),
    }
}

fn records() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..2 * RECORD_LEN).map(|i| (i % 251) as u8).collect();
    bytes[RECORD_LEN] = 9;
    bytes
}

fn messages() -> Vec<Vec<u8>> {
    let key = || b"resnet-xla/place/1".to_vec();
    let hello = Hello {
        program: "resnet-xla".to_owned(),
        processes: 4,
        process: 1,
        place: "here 17".to_owned(),
    };
    let requests = [
        Request::Hello(hello),
        Request::Put {
            key: key(),
            value: vec![7; 99],
        },
        Request::Get {
            key: key(),
            milliseconds: 1000,
        },
        Request::TryGet { key: key() },
    ];
    let frame = |request: Request| {
        let mut frame = Vec::new();
        message::send(&mut frame, &request.encode()).expect("memory takes all bytes");
        frame
    };
    requests.into_iter().map(frame).collect()
}

fn pictures() -> Vec<Vec<u8>> {
    let rgb = RgbImage::from_fn(40, 33, |x, y| [x as u8, y as u8, 7].into());
    let rgba = RgbaImage::from_fn(5, 9, |x, y| [x as u8, y as u8, 7, 100].into());
    let rgb = DynamicImage::ImageRgb8(rgb);
    vec![
        png(&rgb),
        png(&DynamicImage::ImageRgba8(rgba)),
        png(&DynamicImage::ImageLuma16(rgb.to_luma16())),
        encoded(&rgb, ImageFormat::Jpeg),
    ]
}

fn png(picture: &DynamicImage) -> Vec<u8> {
    encoded(picture, ImageFormat::Png)
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let encoded = picture.write_to(&mut bytes, format);
    encoded.expect("a small picture in memory");
    bytes.into_inner()
}

/// A checkpoint of a network of `depth` layers, with its first tensor alone.
pub fn checkpoint(depth: usize) -> Vec<u8> {
    let info = CheckpointInfo::example(depth);
    let info = serde_json::to_string(&info).expect("plain values");
    let metadata = HashMap::from([("resnet-xla".to_owned(), info)]);
    let kernel = [0; 4 * 3 * 3 * 3 * 16];
    let view = TensorView::new(Dtype::F32, vec![3, 3, 3, 16], &kernel);
    let view = view.expect("as many bytes as the shape says");
    safetensors::serialize([("conv_in/kernel", view)], Some(metadata)).expect("a valid tensor")
}

fn settings(preset: Preset) -> Vec<u8> {
    let text = Config::preset(preset).and_then(|config| config.to_toml());
    text.expect("plain values").into_bytes()
}

/// A package with right labels and a sheet of the wrong size.
fn package() -> Vec<u8> {
    let labels = |count: usize| format!("[{}]", vec!["3"; count].join(",")).into_bytes();
    let sheet = png(&DynamicImage::ImageRgb8(RgbImage::new(1024, 2)));
    tarball(&[
        ("package/test_batch.png", &sheet),
        ("package/test_lables.json", &labels(10_000)),
        ("package/train_lables.json", &labels(50_000)),
    ])
}

/// A tarball, not compressed.
fn tarball(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        let appended = tar.append_data(&mut header, name, *content);
        appended.expect("memory takes it");
    }
    tar.into_inner().expect("memory takes it")
}

fn history() -> Vec<u8> {
    let header = crate::run::history::COLUMNS.join(",");
    format!("{header}\n0,2.5,0.125,,,1e-1,3,40,0\n4,nan,0.5,2,0.75,0.01,1,2,1\n").into_bytes()
}
