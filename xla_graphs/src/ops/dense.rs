//! The dense (fully connected) layer.

use crate::table::{Init, Role, TensorSpec};
#[cfg(feature = "trace")]
use {
    crate::error::Result,
    crate::ops::channels::{per_channel, sum_to_channel},
    crate::ops::lowering::Lowering,
    crate::tensors::Tensors,
    xla::XlaOp,
};

/// y = x · kernel + bias, in f32.
#[derive(Clone, Debug)]
pub struct Dense {
    pub name: String,
    pub inputs: usize,
    pub outputs: usize,
}

impl Dense {
    fn kernel(&self) -> String {
        format!("{}/kernel", self.name)
    }

    fn bias(&self) -> String {
        format!("{}/bias", self.name)
    }

    /// Kernel `[in, out]`, Glorot uniform; bias `[out]`, zero.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        vec![
            TensorSpec {
                name: self.kernel(),
                dims: vec![self.inputs, self.outputs],
                init: Init::GlorotUniform {
                    fan_in: self.inputs,
                    fan_out: self.outputs,
                },
                role: Role::Weight { decays: true },
            },
            TensorSpec {
                name: self.bias(),
                dims: vec![self.outputs],
                init: Init::Zeros,
                role: Role::Weight { decays: false },
            },
        ]
    }
}

#[cfg(feature = "trace")]
impl Dense {
    /// y = x · kernel + bias: `[N, in]` to `[N, out]`.
    pub fn forward(&self, params: &Tensors, x: &XlaOp) -> Result<XlaOp> {
        let product = x.dot_general(params.get(&self.kernel())?, &[1], &[0], &[], &[])?;
        let bias = per_channel(params.get(&self.bias())?, &product.dims()?)?;
        Ok((product + bias)?)
    }

    /// dkernel = xᵀ · dy, dbias = Σₙ dy, dx = dy · kernelᵀ.
    pub fn backward(
        &self,
        params: &Tensors,
        x: &XlaOp,
        dy: &XlaOp,
        gradients: &mut Tensors,
    ) -> Result<XlaOp> {
        gradients.insert(self.kernel(), x.dot_general(dy, &[0], &[0], &[], &[])?);
        gradients.insert(self.bias(), sum_to_channel(dy, Lowering::Native)?);
        Ok(dy.dot_general(params.get(&self.kernel())?, &[1], &[1], &[], &[])?)
    }
}
