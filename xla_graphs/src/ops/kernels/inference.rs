//! All layers of a network with moving statistics, as one call.

use kernel_contract::Format;
use kernel_contract::plan::{self, Added, Start};
use xla::{PrimitiveType, XlaBuilder, XlaOp};

use crate::arrays::{dims_of, len_of};
use crate::error::Result;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::conv::Conv;
use crate::ops::kernels::call::Operands;
use crate::ops::kernels::features::{Statistics, format_of, format_of_type};
use crate::tensors::{Place, Tensors};

/// Layers one after another, from images to images. Those of the last one are the call's result.
pub struct Inference<'a> {
    params: &'a Tensors,
    builder: &'a XlaBuilder,
    operands: Operands<'static>,
    format: Format,
    x: Start,
    stem: Option<plan::Stem>,
    layers: Vec<plan::InferenceLayer>,
    /// Of the images and of what each layer gives.
    dims: Vec<[usize; 4]>,
}

/// Images between layers.
#[derive(Clone, Copy)]
pub struct Value(usize);

/// A value of which every `stride`-th pixel along rows and columns is added to what a layer gives, and zeros to the
/// channels that it does not have.
#[derive(Clone, Copy)]
pub struct Skip {
    pub value: Value,
    pub stride: usize,
}

impl<'a> Inference<'a> {
    /// No layers yet, with the weights and the moving statistics in `params`, for images `x` `[N, H, W, C]`, f32 or bf16.
    /// All images between layers are of that type too.
    pub fn new(params: &'a Tensors, x: &'a XlaOp) -> Result<(Self, Value)> {
        let dims = dims_of(x, "[N, H, W, C]")?;
        let call = Self::of(params, x, format_of(x)?, dims)?;
        Ok((call, Value(0)))
    }

    /// The same behind the convolution `stem` of f32 images `x` `[N, H, W, channels]`, of which it makes f32 or bf16.
    pub fn behind(
        params: &'a Tensors,
        stem: &Conv,
        x: &'a XlaOp,
        inside: PrimitiveType,
    ) -> Result<(Self, Value)> {
        let [images, height, width, channels] = dims_of(x, "[N, H, W, C]")?;
        let sizes = [height, width].map(|size| stem.output_side(size));
        let dims = [images, sizes[0], sizes[1], stem.outputs];
        let mut call = Self::of(params, x, format_of_type(inside), dims)?;
        let kernel = params.home(&stem.kernel())?;
        let len = stem.side * stem.side * channels * stem.outputs;
        call.stem = Some(plan::Stem {
            image: [height, width, channels],
            side: stem.side,
            stride: stem.stride,
            kernel: call.operands.add("the kernel", kernel, len)?,
        });
        Ok((call, Value(0)))
    }

    /// With `x` as an operand, and value number 0 in `format` and of dimensions `dims`.
    fn of(params: &'a Tensors, x: &'a XlaOp, format: Format, dims: [usize; 4]) -> Result<Self> {
        let mut operands = Operands::new("the units");
        Ok(Self {
            params,
            builder: x.builder(),
            x: operands.add("x", &Place::new(x, 0), len_of(x)?)?,
            operands,
            format,
            stem: None,
            layers: Vec::new(),
            dims: vec![dims],
        })
    }

    /// conv(relu(bn(input))), with `skip` added where there is one, or with max pooling over 2x2 pixels where it `pools`.
    pub fn layer(
        &mut self,
        (bn, conv, pools): (&BatchNorm, &Conv, bool),
        input: Value,
        skip: Option<Skip>,
    ) -> Result<Value> {
        let layer = super::layer_of(conv, self.dims[input.0], self.format, pools);
        let (params, operands) = (self.params, &mut self.operands);
        let kernel = params.home(&conv.kernel())?;
        self.layers.push(plan::InferenceLayer {
            layer,
            norm: Statistics::moving(params, bn)?.norm(params, bn, operands)?,
            kernel: operands.add("the kernel", kernel, layer.kernel_len())?,
            input: input.0,
            added: skip.map(|Skip { value, stride }| Added {
                value: value.0,
                stride,
            }),
        });
        self.dims.push(layer.result_dims());
        Ok(Value(self.layers.len()))
    }

    /// What the last layer gives.
    ///
    /// # Errors
    /// [`crate::GraphError::Kernel`] when no kernel computes this: there is no layer, a convolution is neither 1x1 nor 3x3,
    /// its channels are not a multiple of 16, or what is added has other sizes.
    pub fn result(self) -> Result<XlaOp> {
        let Self {
            x, stem, layers, ..
        } = self;
        let plan = plan::Inference { x, stem, layers };
        let mut results = self.operands.call(self.builder, &plan)?;
        Ok(results.remove(0))
    }
}
