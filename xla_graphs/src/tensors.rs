//! Tensors of one computation, by name.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use xla::XlaOp;

use crate::layout::TensorSpec;
use crate::ops::to_i64;
use crate::{GraphError, Result};

/// Graph values by tensor name: parameters on the way in, gradients or new values on the way out.
#[derive(Default)]
pub struct Tensors(BTreeMap<String, Tensor>);

struct Tensor {
    value: XlaOp,
    /// Where in a flat array the tensor lies.
    home: Place,
}

/// Where in an array something begins.
#[derive(Clone)]
pub struct Place {
    pub array: XlaOp,
    pub offset: usize,
    /// In a loop: the number of the round, and how much further on it begins for each.
    pub round: Option<(XlaOp, usize)>,
}

impl Place {
    /// At `offset` of `array`.
    pub fn new(array: &XlaOp, offset: usize) -> Self {
        Self {
            array: array.clone(),
            offset,
            round: None,
        }
    }
}

impl Tensors {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `value` under `name`, in place of an earlier one.
    pub fn insert(&mut self, name: impl Into<String>, value: XlaOp) {
        let home = Place::new(&value, 0);
        self.0.insert(name.into(), Tensor { value, home });
    }

    /// Adds the tensors of `specs`, which lie one behind the other in `values`. The same values lie in
    /// a flat array from `home` on.
    pub(crate) fn insert_parts<T: Borrow<TensorSpec>>(
        &mut self,
        specs: &[T],
        values: &XlaOp,
        home: &Place,
    ) -> Result<()> {
        let mut start = 0;
        for spec in specs.iter().map(Borrow::borrow) {
            let end = start + spec.len();
            let part = values.slice_in_dim(start as i64, end as i64, 1, 0)?;
            let value = part.reshape(&to_i64(&spec.dims))?;
            let home = Place {
                offset: home.offset + start,
                ..home.clone()
            };
            self.0.insert(spec.name.clone(), Tensor { value, home });
            start = end;
        }
        Ok(())
    }

    /// The tensors of `specs` one behind the other, as a vector. A value that is longer than its tensor
    /// has those behind it too.
    pub(crate) fn join<T: Borrow<TensorSpec>>(&self, specs: &[T]) -> Result<XlaOp> {
        let mut parts = Vec::new();
        let (mut start, mut end) = (0, 0);
        for spec in specs.iter().map(Borrow::borrow) {
            if start == end {
                let value = self.get(&spec.name)?;
                let len = value.dims()?.iter().product::<usize>();
                parts.push(value.reshape(&[len as i64])?);
                end += len;
            }
            start += spec.len();
        }
        let (first, rest) = parts.split_first().ok_or(GraphError::NoTensors)?;
        Ok(first.concat_in_dim(rest, 0)?)
    }

    /// The value of `name`.
    ///
    /// # Errors
    /// [`GraphError::MissingTensor`] when there is none.
    pub fn get(&self, name: &str) -> Result<&XlaOp> {
        Ok(&self.tensor(name)?.value)
    }

    /// Where `name` lies: at 0 of itself when it is no part of an array.
    ///
    /// # Errors
    /// [`GraphError::MissingTensor`] when there is none.
    pub fn home(&self, name: &str) -> Result<&Place> {
        Ok(&self.tensor(name)?.home)
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).ok_or_else(|| GraphError::MissingTensor {
            name: name.to_owned(),
            known: self.0.len(),
        })
    }

    /// Names and values, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &XlaOp)> {
        let tensors = self.0.iter();
        tensors.map(|(name, tensor)| (name.as_str(), &tensor.value))
    }
}
