//! 2-D convolution without bias, "same" padding.

use crate::ops::lowering::Lowering;
use crate::table::{Init, Role, TensorSpec};
#[cfg(feature = "trace")]
use {
    crate::arrays::{cast, scalar_like},
    crate::error::Result,
    crate::ops::convolve::{
        FORWARD, Geometry, INPUT_GRADIENT, KERNEL_GRADIENT, convolve, image_side,
    },
    crate::tensors::Tensors,
    xla::{PrimitiveType, XlaOp},
};

/// One convolution layer.
#[derive(Clone, Debug)]
pub struct Conv {
    pub name: String,
    /// Side of the square kernel.
    pub side: usize,
    pub stride: usize,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    pub padding: Padding,
    pub lowering: Lowering,
}

/// On which side of an image the odd pixel of "same" padding is. With either, a window that moves by `stride` has
/// ⌈size / stride⌉ places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// Behind its last one, as in TensorFlow.
    Far,
    /// Before its first one, as in PyTorch: of half a window on both sides, what no window reaches is behind the last.
    Near,
}

impl Padding {
    /// The padding (low, high) of `size` pixels for a window of `side` pixels that moves by `stride`.
    pub fn of(self, size: usize, side: usize, stride: usize) -> (i64, i64) {
        let covered = (size.div_ceil(stride) - 1) * stride + side;
        let total = covered.saturating_sub(size) as i64;
        let (less, more) = (total / 2, total - total / 2);
        match self {
            Self::Far => (less, more),
            Self::Near => (more, less),
        }
    }
}

impl Conv {
    /// The name of its kernel.
    pub fn kernel(&self) -> String {
        format!("{}/kernel", self.name)
    }

    /// Kernel `[side, side, in, out]`, He normal.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        vec![TensorSpec {
            name: self.kernel(),
            dims: vec![self.side, self.side, self.inputs, self.outputs],
            init: Init::HeNormal {
                fan_in: self.side * self.side * self.inputs,
            },
            role: Role::Weight { decays: true },
        }]
    }

    /// The side of the output for an input of side `side`: ⌈side / stride⌉.
    pub fn output_side(&self, side: usize) -> usize {
        side.div_ceil(self.stride)
    }

    /// The padding (low, high) of an image axis of `size` pixels.
    pub fn forward_padding(&self, size: usize) -> (i64, i64) {
        self.padding.of(size, self.side, self.stride)
    }
}

#[cfg(feature = "trace")]
impl Conv {
    fn is_pointwise_dot(&self) -> bool {
        self.side == 1 && matches!(self.lowering, Lowering::Dots | Lowering::Kernels)
    }

    /// `y[n, i, j, o] = Σ x[n, i·s + a − p, j·s + b − p, c] · kernel[a, b, c, o]` over a, b, c, with
    /// stride s and padding p. `[N, H, W, in]` to `[N, ⌈H/s⌉, ⌈W/s⌉, out]`, in the precision of `x`.
    pub fn forward(&self, params: &Tensors, x: &XlaOp) -> Result<XlaOp> {
        let kernel = cast(params.get(&self.kernel())?, x.primitive_type()?)?;
        if self.is_pointwise_dot() {
            let kernel = kernel.reshape(&[self.inputs as i64, self.outputs as i64])?;
            return Ok(subsample(x, self.stride)?.dot_general(&kernel, &[3], &[0], &[], &[])?);
        }
        let (h, w) = image_side(x)?;
        convolve(
            x,
            &kernel,
            &Geometry {
                stride: self.stride,
                padding: [self.forward_padding(h), self.forward_padding(w)],
                ..Geometry::default()
            },
            FORWARD,
        )
    }

    /// The gradients of [`Self::forward`] at `x`: the kernel's goes into `gradients` (f32), the
    /// input's is returned in the precision of `dy`.
    pub fn backward(
        &self,
        params: &Tensors,
        x: &XlaOp,
        dy: &XlaOp,
        gradients: &mut Tensors,
    ) -> Result<XlaOp> {
        self.backward_kernel(x, dy, gradients)?;
        self.backward_input(params, &x.dims()?, dy)
    }

    /// `dx[n, h, w, c] = Σ dy[n, i, j, o] · kernel[a, b, c, o]` over all i, j, a, b, o that
    /// [`Self::forward`] pairs with h, w: a convolution of `dy`, spread out by the stride, with the
    /// kernel turned by half a turn and its channels exchanged.
    pub(crate) fn backward_input(
        &self,
        params: &Tensors,
        x_dims: &[usize],
        dy: &XlaOp,
    ) -> Result<XlaOp> {
        let kernel = cast(params.get(&self.kernel())?, dy.primitive_type()?)?;
        if self.is_pointwise_dot() {
            let kernel = kernel.reshape(&[self.inputs as i64, self.outputs as i64])?;
            let dx = dy.dot_general(&kernel, &[3], &[1], &[], &[])?;
            return spread(&dx, x_dims, self.stride);
        }
        convolve(
            dy,
            &kernel.rev(&[0, 1])?,
            &Geometry {
                padding: [
                    self.input_gradient_padding(x_dims[1]),
                    self.input_gradient_padding(x_dims[2]),
                ],
                lhs_dilation: self.stride,
                ..Geometry::default()
            },
            INPUT_GRADIENT,
        )
    }

    /// The kernel's gradient, into `gradients`, from the images `x` that it read and the gradient `dy` of its result.
    pub fn backward_kernel(&self, x: &XlaOp, dy: &XlaOp, gradients: &mut Tensors) -> Result<()> {
        gradients.insert(self.kernel(), self.kernel_gradient(x, dy)?);
        Ok(())
    }

    /// `dkernel[a, b, c, o] = Σ x[n, i·s + a − p, j·s + b − p, c] · dy[n, i, j, o]` over n, i, j: a
    /// convolution of `x` with `dy`, spread out by the stride, that sums over the batch. In f32.
    pub(crate) fn kernel_gradient(&self, x: &XlaOp, dy: &XlaOp) -> Result<XlaOp> {
        if self.is_pointwise_dot() {
            let product = subsample(x, self.stride)?.dot_general_with_type(
                dy,
                &[0, 1, 2],
                &[0, 1, 2],
                &[],
                &[],
                PrimitiveType::F32,
            )?;
            Ok(product.reshape(&[1, 1, self.inputs as i64, self.outputs as i64])?)
        } else {
            let (h, w) = image_side(x)?;
            let product = convolve(
                x,
                dy,
                &Geometry {
                    padding: [
                        self.kernel_gradient_padding(h),
                        self.kernel_gradient_padding(w),
                    ],
                    rhs_dilation: self.stride,
                    ..Geometry::default()
                },
                KERNEL_GRADIENT,
            )?;
            cast(&product, PrimitiveType::F32)
        }
    }

    /// Padding of `dy` in [`Self::backward_input`], such that the result has `size` pixels.
    fn input_gradient_padding(&self, size: usize) -> (i64, i64) {
        let (low, _) = self.forward_padding(size);
        let dilated = ((self.output_side(size) - 1) * self.stride + 1) as i64;
        let side = self.side as i64;
        let before = side - 1 - low;
        (before, size as i64 + side - 1 - dilated - before)
    }

    /// Padding of `x` in [`Self::backward_kernel`], such that the result has `side` pixels.
    fn kernel_gradient_padding(&self, size: usize) -> (i64, i64) {
        let (low, _) = self.forward_padding(size);
        let dilated = ((self.output_side(size) - 1) * self.stride + 1) as i64;
        (low, dilated + self.side as i64 - 1 - size as i64 - low)
    }
}

/// Every stride-th pixel of `[N, H, W, C]`, from the first: all that a 1x1 kernel sees.
#[cfg(feature = "trace")]
pub(super) fn subsample(x: &XlaOp, stride: usize) -> Result<XlaOp> {
    if stride == 1 {
        return Ok(x.clone());
    }
    let (h, w) = image_side(x)?;
    let rows = x.slice_in_dim(0, h as i64, stride as i64, 1)?;
    Ok(rows.slice_in_dim(0, w as i64, stride as i64, 2)?)
}

/// The transpose of [`subsample`]: back to dimensions `x_dims`, zero between the pixels.
#[cfg(feature = "trace")]
pub(super) fn spread(dx: &XlaOp, x_dims: &[usize], stride: usize) -> Result<XlaOp> {
    if stride == 1 {
        return Ok(dx.clone());
    }
    let gap = stride - 1;
    let config = |side: usize| {
        let covered = (side.div_ceil(stride) - 1) * stride + 1;
        (0, (side - covered) as i64, gap as i64)
    };
    let config = [(0, 0, 0), config(x_dims[1]), config(x_dims[2]), (0, 0, 0)];
    Ok(dx.pad(&scalar_like(dx, 0.0)?, &config)?)
}
