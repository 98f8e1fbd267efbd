//! The images to classify.

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::args::PredictArgs;
use crate::cli::commands::trained;
use crate::cli::config::ConfigError;
use crate::data::Split;
use crate::data::picture::{self, PictureError};
use crate::predict::Image;
use crate::run::checkpoint::CheckpointInfo;
use crate::system::text;

/// Test images to classify when none are given, as in the tutorial.
const TEST_IMAGES: usize = 10;

/// Images to classify, in the order of the command line.
pub enum Subjects {
    /// Test images by index.
    Test { split: Split, indices: Vec<usize> },
    /// The user's files, to be read as `side` rows and columns.
    Pictures { paths: Vec<PathBuf>, side: usize },
}

/// One image, and its true class if known.
pub struct Subject {
    pub name: String,
    pub image: Image,
    /// The true class, if known.
    pub truth: Option<usize>,
}

impl Subjects {
    /// `pictures`, or if there are none the test images that `args` name.
    pub fn of(args: &PredictArgs, pictures: Vec<PathBuf>, info: &CheckpointInfo) -> Result<Self> {
        if !pictures.is_empty() {
            return Ok(Self::Pictures {
                paths: pictures,
                side: info.spec.side,
            });
        }
        let split = trained::load_data(&args.from, info)?.test;
        let indices = match args.index.is_empty() {
            true => (0..TEST_IMAGES.min(split.len())).collect(),
            false => args.index.clone(),
        };
        if let Some(index) = indices.iter().find(|index| **index >= split.len()) {
            return Err(ConfigError::Index {
                got: *index,
                last: split.len() - 1,
            }
            .into());
        }
        Ok(Self::Test { split, indices })
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Test { indices, .. } => indices.len(),
            Self::Pictures { paths, .. } => paths.len(),
        }
    }

    /// The name of the image at `place`.
    pub fn name(&self, place: usize) -> String {
        match self {
            Self::Test { indices, .. } => format!("test image {}", indices[place]),
            Self::Pictures { paths, .. } => paths[place].display().to_string(),
        }
    }

    pub fn widest_name(&self) -> usize {
        let names = (0..self.len()).map(|place| self.name(place));
        names
            .map(|name| text::one_line(&name).chars().count())
            .max()
            .unwrap_or(0)
    }

    /// The image at `place`.
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub fn read(&self, place: usize) -> Result<Subject, PictureError> {
        let (image, truth) = match self {
            Self::Test { split, indices } => {
                let index = indices[place];
                let pixels = split.image(index).to_vec();
                let truth = Some(split.labels[index].into());
                (Image::new(split.side(), pixels), truth)
            }
            Self::Pictures { paths, side } => (
                Image::new(*side, picture::read(&paths[place], *side)?),
                None,
            ),
        };
        Ok(Subject {
            name: self.name(place),
            image,
            truth,
        })
    }
}
