//! A trained network as a library: pictures in, classes out.
//!
//! ```no_run
//! use resnet_xla::predict::Classifier;
//!
//! let classifier = Classifier::open("runs/keras")?;
//! let image = classifier.read("cat.png")?;
//! for guess in classifier.classify(&image)?.iter().take(3) {
//!     let name = &classifier.class_names()[guess.class];
//!     println!("{name} {:.1} %", 100.0 * guess.probability);
//! }
//! # Ok::<(), resnet_xla::predict::PredictError>(())
//! ```
//!
//! `examples/classify.rs` is a program that does this. XLA is linked with every program that uses the library, and reads
//! `XLA_FLAGS` when the first classifier opens.
//!
//! | file | job |
//! | --- | --- |
//! | `error` | what can go wrong |
//! | `image` | pixels for a network |
//! | `trained` | the program and the weights of a checkpoint, for batches of one size |

mod error;
mod image;
pub mod trained;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use ndarray::Array1;

use crate::data::{Batch, BatchSource, Images, Split, picture};
use crate::device::{Device, DeviceChoice, DeviceError};
use crate::model::program::{Program, Weights};
use crate::model::program_folder::ProgramFolder;
use crate::run::checkpoint::{CheckpointInfo, Source};
use crate::score::ranking::predictions;
use trained::Options;

pub use crate::score::ranking::{Prediction, Ranking};
pub use error::PredictError;
pub use image::Image;

/// Images that [`Classifier::open`] has classified at once. They are few because a batch that is not full takes as long as a
/// full one.
pub const BATCH_SIZE: usize = 32;

/// A trained network that takes any number of images.
///
/// It compiles when it classifies for the first time: a program for one image in [`classify`](Self::classify), and one for
/// a batch in [`classify_all`](Self::classify_all), however few images that is given.
pub struct Classifier<'a> {
    info: CheckpointInfo,
    /// `None` where the computations are for batches alone.
    one: Option<Program<'a>>,
    many: Program<'a>,
    weights: Weights,
}

impl Classifier<'static> {
    /// The network of the checkpoint at `path`, a `.safetensors` file or a run's folder (its newest checkpoint), on the
    /// CPU. The CPU stays open until the process ends.
    ///
    /// # Errors
    /// [`PredictError::Checkpoint`] or [`PredictError::Device`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PredictError> {
        let source = Source::at(path.as_ref())?;
        Self::on(cpu()?, source, &Options::default(), BATCH_SIZE, None)
    }

    /// The network that comes with the program, trained on CIFAR-10, on the CPU.
    ///
    /// # Errors
    /// [`PredictError::Device`].
    pub fn shipped() -> Result<Self, PredictError> {
        let source = Source::shipped()?;
        Self::on(cpu()?, source, &Options::default(), BATCH_SIZE, None)
    }
}

impl<'a> Classifier<'a> {
    /// The network of `source` on `device`, which classifies `batch_size` images at once, by the computations in `folder`
    /// if there is one.
    ///
    /// # Errors
    /// [`PredictError::Checkpoint`] if the weights cannot be read, [`PredictError::Run`] if there is no such network, the
    /// folder is for another, or the device cannot take them.
    pub fn on(
        device: &'a Device,
        source: Source,
        options: &Options,
        batch_size: usize,
        folder: Option<ProgramFolder>,
    ) -> Result<Self, PredictError> {
        let is_traced = folder.is_none();
        let program = |images: usize, folder| {
            let images = images.next_multiple_of(device.replicas);
            trained::program(device, &source.info, options, images, folder)
        };
        let many = program(batch_size, folder)?;
        let weights = source.weights(many.layout(), options.weights)?;
        Ok(Self {
            one: is_traced.then(|| program(1, None)).transpose()?,
            weights: many.upload_weights(&weights)?,
            many,
            info: source.info,
        })
    }

    /// The names of the classes, by the numbers in a [`Prediction`].
    pub fn class_names(&self) -> &[String] {
        &self.info.spec.class_names
    }

    /// Images that are classified at once.
    pub fn batch_size(&self) -> usize {
        self.many.model().global_batch()
    }

    /// Rows and columns of the images that the network takes.
    pub fn side(&self) -> usize {
        self.info.spec.side
    }

    /// Reads the picture at `path`, a PNG, JPEG, WebP or BMP of any size: rotated upright, cropped to the largest
    /// central square, transparency replaced by white, resized to what the network takes.
    ///
    /// # Errors
    /// [`PredictError::Picture`].
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Image, PredictError> {
        let pixels = picture::read(path.as_ref(), self.side())?;
        Ok(Image::new(self.side(), pixels))
    }

    /// The classes of `image` by falling probability, all of them.
    ///
    /// # Errors
    /// [`PredictError::Side`] if the image has another size than the network takes, [`PredictError::Run`] if it cannot be
    /// compiled or run.
    pub fn classify(&self, image: &Image) -> Result<Ranking, PredictError> {
        let program = self.one.as_ref().unwrap_or(&self.many);
        let rankings = self.classify_by(program, &[image])?;
        let only = rankings.into_iter().next();
        only.ok_or_else(|| PredictError::Run(anyhow::anyhow!("an image without logits")))
    }

    /// [`Self::classify`] of each of `images`, in batches. A batch that is not full takes as long as a full one.
    ///
    /// # Errors
    /// Those of [`Self::classify`].
    pub fn classify_all(&self, images: &[&Image]) -> Result<Vec<Ranking>, PredictError> {
        let mut rankings = Vec::with_capacity(images.len());
        // A last batch of one image is no reason to compile another program.
        for batch in images.chunks(self.batch_size()) {
            rankings.extend(self.classify_by(&self.many, batch)?);
        }
        Ok(rankings)
    }

    /// The classes of `images`, at most a batch of `program`.
    fn classify_by(
        &self,
        program: &Program,
        images: &[&Image],
    ) -> Result<Vec<Ranking>, PredictError> {
        let side = self.side();
        if let Some(other) = images.iter().find(|image| image.side() != side) {
            return Err(PredictError::Side {
                expected: side,
                got: other.side(),
            });
        }
        let pixels: Vec<&[u8]> = images.iter().map(|image| image.pixels()).collect();
        let batch = self.batch(&pixels, program.model().global_batch())?;
        let logits = program.predict_step(&self.weights, &batch.images)?;
        let classes = self.info.spec.classes();
        Ok(predictions(&logits, classes, images.len())?)
    }

    /// `images`, normalised, and as many more as make a batch of `size`.
    fn batch(&self, images: &[&[u8]], size: usize) -> anyhow::Result<Batch> {
        let split = Split {
            images: Images::in_memory(self.side(), images.concat()),
            labels: Array1::zeros(images.len()),
        };
        let source = BatchSource::evaluation(Arc::new(split), self.info.normalization, size);
        let mut batch = Batch::default();
        source.fill(0, &mut batch);
        Ok(batch)
    }
}

/// The CPU, opened once: XLA has its settings from the first time.
fn cpu() -> Result<&'static Device, DeviceError> {
    static CPU: OnceLock<Device> = OnceLock::new();
    if let Some(device) = CPU.get() {
        return Ok(device);
    }
    let device = Device::open(DeviceChoice::Cpu, None, None)?;
    Ok(CPU.get_or_init(|| device))
}
