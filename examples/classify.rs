//! Classifies pictures with a trained network, as any program can that uses this library.
//!
//! ```text
//! cargo run --release --example classify -- CHECKPOINT PICTURE...
//! ```
//!
//! CHECKPOINT is a `.safetensors` file or a run's folder, PICTURE a PNG, JPEG, WebP or BMP of any size.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use resnet_xla::predict::{Classifier, PredictError};

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [checkpoint, pictures @ ..] = arguments.as_slice() else {
        eprintln!("usage: classify CHECKPOINT PICTURE...");
        return ExitCode::from(2);
    };
    match classify(checkpoint, pictures) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn classify(checkpoint: &Path, pictures: &[PathBuf]) -> Result<(), PredictError> {
    let classifier = Classifier::open(checkpoint)?;
    for path in pictures {
        let image = classifier.read(path)?;
        let guesses = classifier.classify(&image)?;
        let best = guesses[0];
        let name = &classifier.class_names()[best.class];
        let percent = 100.0 * best.probability;
        println!("{}: {name}, {percent:.1} %", path.display());
    }
    Ok(())
}
