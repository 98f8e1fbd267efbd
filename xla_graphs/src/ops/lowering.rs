//! How layers are written for the compiler.

use std::fmt;

/// The one choice that depends on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lowering {
    /// Convolutions and sums as XLA's own operations: what a GPU's compiler expects.
    Native,
    /// [`Lowering::Native`], and before a 1x1 convolution that begins a unit a batch norm takes the sums of its backward
    /// pass from gradients of kernels (`network/kernel_sums.rs`), so that a TPU's compiler keeps less in memory.
    Tpu,
    /// 1x1 convolutions and sums per channel as matrix products. XLA's CPU backend runs a 1x1
    /// gradient 2 times and a fused sum of products 3 times faster this way.
    Dots,
    /// [`Lowering::Dots`], and the layers of the units as calls of kernels made for XLA's CPU backend
    /// ([`crate::ops::kernels`]): a processor with AVX2, and the kernels registered in this process.
    Kernels,
}

impl fmt::Display for Lowering {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Tpu => "tpu",
            Self::Dots => "dots",
            Self::Kernels => "kernels",
        })
    }
}
