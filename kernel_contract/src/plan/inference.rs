//! The plan of all layers of a network with moving statistics.

use super::fields::{Norm, Start};
use crate::array::Array;
use crate::codec::Plan;
use crate::error::PlanError;
use crate::kernel::Kernel;
use crate::layer::Layer;
use crate::numbers::{Reader, Writer};

/// With these limits no number of values overflows.
const LARGEST_IMAGE: usize = 1 << 16;
const LARGEST_WINDOW: usize = 64;

/// Layers with moving statistics, from images to images. No sum runs over the batch, so that each image goes through all
/// layers on its own.
///
/// The values between layers have numbers: what the first layer reads is 0, and each layer gives the next one. The result
/// is the last of them, `[N, h, w, O]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inference {
    /// Value number 0, `[N, H, W, C]`; or what the stem makes it of.
    pub x: Start,
    pub stem: Option<Stem>,
    /// At least one, all for the same number of images in the same format.
    pub layers: Vec<InferenceLayer>,
}

/// The first convolution of a network, "same" padding: of f32 images of few channels, in f32. Value number 0 is its result,
/// stored in the layers' format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stem {
    /// Rows, columns and channels of an image.
    pub image: [usize; 3],
    /// Of the square kernel.
    pub side: usize,
    pub stride: usize,
    /// `[side, side, channels, C]`.
    pub kernel: Start,
}

/// conv(relu(norm(input))) + added, or pool(conv(relu(norm(input)))).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InferenceLayer {
    pub layer: Layer,
    pub norm: Norm,
    /// `[side, side, C, O]`.
    pub kernel: Start,
    /// The number of the value that it reads.
    pub input: usize,
    /// Without pooling alone.
    pub added: Option<Added>,
}

/// A value with `stride` times as many rows and columns as a layer's result, of which each `stride`-th is added to it. The
/// channels that the value does not have get zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// The value's number.
    pub value: usize,
    pub stride: usize,
}

impl Stem {
    /// Rows and columns of the result.
    pub fn result(&self) -> [usize; 2] {
        let [height, width, _] = self.image;
        [height, width].map(|size| size.div_ceil(self.stride))
    }

    /// Rows and columns of what all taps meet: the image with a border.
    pub fn covered(&self) -> [usize; 2] {
        let last = |size: usize| size.saturating_sub(1) * self.stride;
        self.result().map(|size| last(size) + self.side)
    }

    /// Rows of the border above the image, and columns before it: the smaller half of all.
    pub fn border(&self) -> [usize; 2] {
        let [height, width, _] = self.image;
        let [covered_height, covered_width] = self.covered();
        [
            covered_height.saturating_sub(height) / 2,
            covered_width.saturating_sub(width) / 2,
        ]
    }

    /// Values of an image.
    pub fn image_len(&self) -> usize {
        self.image.iter().product()
    }

    /// Factors of each of the result's values.
    pub fn depth(&self) -> usize {
        self.side * self.side * self.image[2]
    }

    fn check(&self, first: &Layer) -> Result<(), PlanError> {
        if [self.side, self.stride, self.image[2]].contains(&0) {
            return refuse("the stem's side, stride and channels", "at least 1", 0);
        }
        if self.side.max(self.stride) > LARGEST_WINDOW {
            return refuse(
                "the stem's side and stride",
                "at most 64",
                self.side.max(self.stride),
            );
        }
        if let Some(size) = self.image.iter().find(|size| **size > LARGEST_IMAGE) {
            return refuse(
                "the stem's rows, columns and channels",
                "at most 65536",
                size,
            );
        }
        let [height, width] = self.result();
        if [height, width] != [first.height, first.width] {
            let got = format!("{height}x{width}");
            return refuse("the stem's result", "the first layer's input", got);
        }
        Ok(())
    }

    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        out.numbers(&self.image)?;
        out.numbers(&[self.side, self.stride])?;
        self.kernel.write(out)
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            image: [numbers.number()?, numbers.number()?, numbers.number()?],
            side: numbers.number()?,
            stride: numbers.number()?,
            kernel: Start::read(numbers)?,
        })
    }
}

impl Inference {
    /// The first layer and the last. The plan must have been checked.
    pub fn ends(&self) -> Option<(&Layer, &Layer)> {
        let (first, last) = (self.layers.first()?, self.layers.last()?);
        Some((&first.layer, &last.layer))
    }

    /// The dimensions of value number `value`, for the layer behind `known` others.
    fn dims(&self, value: usize, known: usize) -> Result<[usize; 4], PlanError> {
        match value {
            0 => Ok(self.layers[0].layer.input_dims()),
            _ if value <= known => Ok(self.layers[value - 1].layer.result_dims()),
            _ => refuse("a layer's value", "one of an earlier layer", value),
        }
    }

    fn check_layer(&self, index: usize) -> Result<(), PlanError> {
        let InferenceLayer {
            layer,
            input,
            added,
            ..
        } = &self.layers[index];
        layer.check()?;
        let first = &self.layers[0].layer;
        if (layer.images, layer.format) != (first.images, first.format) {
            let got = format!("{} of {:?}", layer.images, layer.format);
            return refuse("a layer's images", "those of the first", got);
        }
        let dims = self.dims(*input, index)?;
        if dims != layer.input_dims() {
            let got = format!("{dims:?}");
            return refuse("a layer's input", "the dimensions that it says", got);
        }
        match added {
            Some(added) => self.check_added(layer, added, index),
            None => Ok(()),
        }
    }

    fn check_added(&self, layer: &Layer, added: &Added, index: usize) -> Result<(), PlanError> {
        if layer.pools {
            return refuse("what is added", "nothing before pooling", "a value");
        }
        if added.stride == 0 {
            return refuse("the stride of what is added", "at least 1", 0);
        }
        let [_, height, width, channels] = self.dims(added.value, index)?;
        let seen = [height, width].map(|size| size.div_ceil(added.stride));
        let size = [layer.result_height(), layer.result_width()];
        if seen != size || channels > layer.outputs {
            let got = format!("{height}x{width}x{channels}");
            return refuse("what is added", "pixels and channels of the result", got);
        }
        Ok(())
    }
}

fn refuse<T>(
    what: &'static str,
    expected: &'static str,
    got: impl ToString,
) -> Result<T, PlanError> {
    let got = got.to_string();
    Err(PlanError::Value {
        what,
        expected,
        got,
    })
}

impl Plan for Inference {
    const KERNEL: Kernel = Kernel::Inference;

    fn results(&self) -> Vec<Array> {
        let last = self.ends().map(|(_, last)| last);
        let result = last.map(|last| Array::of(last.format, &last.result_dims()));
        result.into_iter().collect()
    }

    fn check(&self) -> Result<(), PlanError> {
        match self.layers.first() {
            None => refuse("the layers", "at least one", 0),
            Some(first) if first.input != 0 => {
                refuse("the first layer's value", "number 0", first.input)
            }
            Some(first) => {
                let mut stem = self.stem.iter();
                stem.try_for_each(|stem| stem.check(&first.layer))?;
                (0..self.layers.len()).try_for_each(|index| self.check_layer(index))
            }
        }
    }

    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        self.x.write(out)?;
        out.number(self.stem.is_some().into())?;
        self.stem.iter().try_for_each(|stem| stem.write(out))?;
        out.number(self.layers.len())?;
        self.layers.iter().try_for_each(|layer| layer.write(out))
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        let x = Start::read(numbers)?;
        let stem = match numbers.yes_or_no("whether there is a stem")? {
            true => Some(Stem::read(numbers)?),
            false => None,
        };
        let layers = (0..numbers.number()?).map(|_| InferenceLayer::read(numbers));
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(Self { x, stem, layers })
    }
}

impl InferenceLayer {
    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        self.layer.write(out)?;
        self.norm.write(out)?;
        self.kernel.write(out)?;
        out.number(self.input)?;
        out.number(self.added.is_some().into())?;
        match &self.added {
            Some(Added { value, stride }) => out.numbers(&[*value, *stride]),
            None => Ok(()),
        }
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            layer: Layer::read(numbers)?,
            norm: Norm::read(numbers)?,
            kernel: Start::read(numbers)?,
            input: numbers.number()?,
            added: match numbers.yes_or_no("whether something is added")? {
                true => Some(Added {
                    value: numbers.number()?,
                    stride: numbers.number()?,
                }),
                false => None,
            },
        })
    }
}
