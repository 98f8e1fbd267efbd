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
    /// Of the square kernel: 1 or 3.
    pub side: usize,
    pub stride: usize,
    /// Whether max pooling over squares of 2x2 pixels follows.
    pub pools: bool,
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
            (1 | 3, 1..) => Ok(()),
            (1 | 3, 0) => refuse("the stride", "at least 1", "0".to_owned()),
            (side, _) => refuse("the convolution", "1x1 or 3x3", format!("{side}x{side}")),
        }?;
        if self.pools && self.side != 3 {
            return refuse("pooling", "a 3x3 convolution before it", "1x1".to_owned());
        }
        let (height, width) = (self.output_height(), self.output_width());
        if self.pools && height.min(width) < 2 {
            let got = format!("{height}x{width}");
            return refuse("pooling", "at least 2x2 pixels", got);
        }
        Ok(())
    }

    /// Input channels in lanes.
    pub fn input_parts(&self) -> usize {
        self.inputs / LANES
    }

    /// Output channels in lanes.
    pub fn output_parts(&self) -> usize {
        self.outputs / LANES
    }

    /// Rows of the convolution's output.
    pub fn output_height(&self) -> usize {
        self.height.div_ceil(self.stride)
    }

    pub fn output_width(&self) -> usize {
        self.width.div_ceil(self.stride)
    }

    /// The input row under the middle of the kernel for the first output row. Of the border that "same" padding needs,
    /// the smaller half comes before the first row.
    pub fn first_row(&self) -> usize {
        self.first(self.height)
    }

    /// The same for columns.
    pub fn first_column(&self) -> usize {
        self.first(self.width)
    }

    fn first(&self, size: usize) -> usize {
        let covered = size.saturating_sub(1) / self.stride * self.stride + self.side;
        self.side / 2 - covered.saturating_sub(size) / 2
    }

    /// Rows of the result: of the output, or of its squares. The last row of an odd number is left out.
    pub fn result_height(&self) -> usize {
        self.pooled(self.output_height())
    }

    /// The same for columns.
    pub fn result_width(&self) -> usize {
        self.pooled(self.output_width())
    }

    fn pooled(&self, size: usize) -> usize {
        if self.pools { size / 2 } else { size }
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
        self.input_dims().iter().product()
    }

    /// `[N, H, W, C]`.
    pub fn input_dims(&self) -> [usize; 4] {
        [self.images, self.height, self.width, self.inputs]
    }

    /// `[N, h, w, O]`.
    pub fn result_dims(&self) -> [usize; 4] {
        let (height, width) = (self.result_height(), self.result_width());
        [self.images, height, width, self.outputs]
    }

    /// Lanes of one image of the result.
    pub fn result_len(&self) -> usize {
        self.result_height() * self.result_width() * self.output_parts()
    }

    /// Values of all images of the result.
    pub fn result_values(&self) -> usize {
        self.images * self.result_len() * LANES
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
