//! Sums over the replicas of one data-parallel program.

use xla::{XlaBuilder, XlaOp};

use crate::Result;

/// The replicas that run the same program side by side, each on its own share of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas(pub usize);

impl Replicas {
    /// The sum of `x` over all replicas, the same on each; `x` itself when there is one replica.
    pub fn sum(self, x: &XlaOp) -> Result<XlaOp> {
        if self.0 == 1 {
            return Ok(x.clone());
        }
        let scalar = XlaBuilder::new("add");
        let element = x.primitive_type()?.element_type()?;
        let a = scalar.parameter(0, element, &[], "a")?;
        let b = scalar.parameter(1, element, &[], "b")?;
        Ok(x.all_reduce(&a.add_(&b)?.build()?)?)
    }

    /// [`Self::sum`] of several f32 vectors by one all-reduce: each has a fixed cost, whatever its
    /// length, that is larger than the cost of the copies.
    pub fn sum_all<const N: usize>(self, vectors: [&XlaOp; N]) -> Result<[XlaOp; N]> {
        let mut sums = vectors.map(XlaOp::clone);
        if self.0 == 1 {
            return Ok(sums);
        }
        let joined = vectors[0].concat_in_dim(&vectors[1..], 0)?;
        let total = self.sum(&joined)?;
        let mut start = 0;
        for sum in &mut sums {
            let end = start + sum.dims()?[0] as i64;
            *sum = total.slice_in_dim(start, end, 1, 0)?;
            start = end;
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
