//! A shortcut without weights, where images get smaller and their channels more ("option A" of He et al. 2016, "Deep
//! Residual Learning for Image Recognition").

#[cfg(feature = "trace")]
use {
    crate::arrays::scalar_like,
    crate::error::Result,
    crate::ops::conv::{spread, subsample},
    xla::XlaOp,
};

/// From `inputs` to `outputs` channels, which are no fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widen {
    pub stride: usize,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
}

#[cfg(feature = "trace")]
impl Widen {
    /// `y[n, i, j, c] = x[n, i·s, j·s, c]` for the input's channels c, with stride s, and 0 for the others:
    /// `[N, H, W, in]` to `[N, ⌈H/s⌉, ⌈W/s⌉, out]`.
    pub fn forward(&self, x: &XlaOp) -> Result<XlaOp> {
        let more = (self.outputs - self.inputs) as i64;
        let seen = subsample(x, self.stride)?;
        let config = [(0, 0, 0), (0, 0, 0), (0, 0, 0), (0, more, 0)];
        Ok(seen.pad(&scalar_like(x, 0.0)?, &config)?)
    }

    /// dx is dy at the pixels and channels that [`Self::forward`] took, 0 elsewhere; `x_dims`: `[N, H, W, in]`.
    pub fn backward(&self, x_dims: &[usize], dy: &XlaOp) -> Result<XlaOp> {
        let taken = dy.slice_in_dim(0, self.inputs as i64, 1, 3)?;
        spread(&taken, x_dims, self.stride)
    }
}
