//! The sizes of a layer.

use crate::error::PlanError;
use crate::format::Format;
use crate::kernel::LANES;

/// A convolution of normalised, rectified images, "same" padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    pub images: usize,
    /// Of the input.
    pub height: usize,
    /// Of the input.
    pub width: usize,
    /// Input channels, a multiple of [`LANES`].
    pub inputs: usize,
    /// Output channels, a multiple of [`LANES`].
    pub outputs: usize,
    /// Of the square kernel: 1, or 3 with stride 1.
    pub side: usize,
    pub stride: usize,
    /// Of the input, the output and their gradients.
    pub format: Format,
}

impl Layer {
    /// Refuses a layer that no kernel computes.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        let refuse = |what, expected, got| {
            Err(PlanError::Value {
                what,
                expected,
                got,
            })
        };
        check_channels("input channels", self.inputs)?;
        check_channels("output channels", self.outputs)?;
        match (self.side, self.stride) {
            (1, 1..) | (3, 1) => Ok(()),
            (1, 0) => refuse("the stride", "at least 1", "0".to_owned()),
            (3, stride) => refuse("the stride of a 3x3 convolution", "1", format!("{stride}")),
            (side, _) => refuse("the convolution", "1x1 or 3x3", format!("{side}x{side}")),
        }
    }

    /// Input channels in lanes.
    pub fn input_parts(&self) -> usize {
        self.inputs / LANES
    }

    /// Output channels in lanes.
    pub fn output_parts(&self) -> usize {
        self.outputs / LANES
    }

    pub fn output_height(&self) -> usize {
        self.height.div_ceil(self.stride)
    }

    pub fn output_width(&self) -> usize {
        self.width.div_ceil(self.stride)
    }

    /// Pixels of one input image.
    pub fn input_pixels(&self) -> usize {
        self.height * self.width
    }

    /// Pixels of one output image.
    pub fn output_pixels(&self) -> usize {
        self.output_height() * self.output_width()
    }

    /// Lanes of one input image.
    pub fn input_len(&self) -> usize {
        self.input_pixels() * self.input_parts()
    }

    /// Lanes of one output image.
    pub fn output_len(&self) -> usize {
        self.output_pixels() * self.output_parts()
    }

    /// Values of all input images.
    pub fn input_values(&self) -> usize {
        self.images * self.input_pixels() * self.inputs
    }

    /// Values of all output images.
    pub fn output_values(&self) -> usize {
        self.images * self.output_pixels() * self.outputs
    }

    /// Values of the convolution's kernel.
    pub fn kernel_len(&self) -> usize {
        self.side * self.side * self.inputs * self.outputs
    }
}

/// Refuses a number of channels that is no multiple of [`LANES`].
pub(crate) fn check_channels(what: &'static str, channels: usize) -> Result<(), PlanError> {
    if channels > 0 && channels.is_multiple_of(LANES) {
        return Ok(());
    }
    Err(PlanError::Value {
        what,
        expected: "a multiple of 16",
        got: channels.to_string(),
    })
}
