//! XLA's general convolution, for images and kernels of two axes.

use xla::XlaOp;

use crate::arrays::to_i64;
use crate::error::Result;

/// Height and width of `[N, H, W, C]`.
pub fn image_side(x: &XlaOp) -> Result<(usize, usize)> {
    let dims = x.dims()?;
    Ok((dims[1], dims[2]))
}

/// Stride, padding and dilation of one convolution; the same on both image axes but for padding.
pub struct Geometry {
    pub stride: usize,
    /// (low, high) of height and width; negative values crop.
    pub padding: [(i64, i64); 2],
    pub lhs_dilation: usize,
    pub rhs_dilation: usize,
}

impl Default for Geometry {
    fn default() -> Self {
        Self {
            stride: 1,
            padding: [(0, 0); 2],
            lhs_dilation: 1,
            rhs_dilation: 1,
        }
    }
}

/// Which axis of each four-dimensional operand plays which part.
pub struct Axes {
    lhs: Operand,
    rhs: Operand,
    out: Operand,
}

/// `outer`: batch (of an image) or output channels (of a kernel); `inner`: the summed channels (or
/// the channels of the result).
pub struct Operand {
    outer: i64,
    inner: i64,
    spatial: [i64; 2],
}

const NHWC: Operand = Operand {
    outer: 0,
    inner: 3,
    spatial: [1, 2],
};

pub const FORWARD: Axes = Axes {
    lhs: NHWC,
    rhs: Operand {
        outer: 3,
        inner: 2,
        spatial: [0, 1],
    },
    out: NHWC,
};

pub const INPUT_GRADIENT: Axes = Axes {
    lhs: NHWC,
    rhs: Operand {
        outer: 2,
        inner: 3,
        spatial: [0, 1],
    },
    out: NHWC,
};

pub const KERNEL_GRADIENT: Axes = Axes {
    lhs: Operand {
        outer: 3,
        inner: 0,
        spatial: [1, 2],
    },
    rhs: Operand {
        outer: 3,
        inner: 0,
        spatial: [1, 2],
    },
    out: Operand {
        outer: 2,
        inner: 3,
        spatial: [0, 1],
    },
};

/// XLA's general convolution with named parts.
pub fn convolve(lhs: &XlaOp, rhs: &XlaOp, geometry: &Geometry, axes: Axes) -> Result<XlaOp> {
    let both = |value: usize| to_i64(&[value, value]);
    Ok(lhs.conv_general_dilated(
        rhs,
        &both(geometry.stride),
        &geometry.padding,
        &both(geometry.lhs_dilation),
        &both(geometry.rhs_dilation),
        axes.lhs.outer,
        axes.lhs.inner,
        &axes.lhs.spatial,
        axes.out.outer,
        axes.out.inner,
        &axes.out.spatial,
        axes.rhs.inner,
        axes.rhs.outer,
        &axes.rhs.spatial,
        1,
        1,
        false,
    )?)
}
