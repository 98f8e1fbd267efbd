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

    /// The mean of `x` over all replicas.
    pub fn mean(self, x: &XlaOp) -> Result<XlaOp> {
        if self.0 == 1 {
            return Ok(x.clone());
        }
        let count = x.builder().c0(self.0 as f32)?;
        Ok((self.sum(x)? / count)?)
    }
}
