//! Sums over the replicas of one data-parallel program.

#[cfg(feature = "trace")]
use {
    crate::error::Result,
    xla::{XlaBuilder, XlaComputation, XlaOp},
};

/// The replicas that run the same program side by side, each on its own share of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas(pub usize);

#[cfg(feature = "trace")]
impl Replicas {
    /// The sum of `x` over all replicas, the same on each; `x` itself when there is one replica.
    pub fn sum(self, x: &XlaOp) -> Result<XlaOp> {
        if self.0 == 1 {
            return Ok(x.clone());
        }
        Ok(x.all_reduce(&addition(x)?)?)
    }

    /// [`Self::sum`] of several f32 arrays by one all-reduce: each has a fixed cost, whatever the
    /// lengths. They go into it as they are: joining them first would cost a TPU another pass.
    pub fn sum_all<const N: usize>(self, arrays: [&XlaOp; N]) -> Result<[XlaOp; N]> {
        let mut sums = arrays.map(XlaOp::clone);
        if self.0 == 1 {
            return Ok(sums);
        }
        let all = arrays[0].builder().tuple(&arrays)?;
        let total = all.all_reduce(&addition(arrays[0])?)?;
        for (index, sum) in sums.iter_mut().enumerate() {
            *sum = total.get_tuple_element(index as i64)?;
        }
        Ok(sums)
    }

    /// The mean of `x` over all replicas.
    pub fn mean(self, x: &XlaOp) -> Result<XlaOp> {
        self.mean_of(&self.sum(x)?)
    }

    /// The mean over all replicas, given the sum.
    pub fn mean_of(self, sum: &XlaOp) -> Result<XlaOp> {
        if self.0 == 1 {
            return Ok(sum.clone());
        }
        Ok((sum / sum.builder().c0(self.0 as f32)?)?)
    }
}

/// a + b for two scalars of the element type of `like`.
#[cfg(feature = "trace")]
fn addition(like: &XlaOp) -> Result<XlaComputation> {
    let scalar = XlaBuilder::new("add");
    let element = like.primitive_type()?.element_type()?;
    let a = scalar.parameter(0, element, &[], "a")?;
    let b = scalar.parameter(1, element, &[], "b")?;
    Ok(a.add_(&b)?.build()?)
}
