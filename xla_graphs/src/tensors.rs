//! Tensors of one computation, by name.

use std::collections::BTreeMap;

use xla::XlaOp;

use crate::{GraphError, Result};

/// Graph values by tensor name: parameters on the way in, gradients or new values on the way out.
#[derive(Default)]
pub struct Tensors(BTreeMap<String, Tensor>);

struct Tensor {
    value: XlaOp,
    /// The flat array that holds the tensor, and where in it the tensor begins.
    home: (XlaOp, usize),
}

impl Tensors {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `value` under `name`, in place of an earlier one.
    pub fn insert(&mut self, name: impl Into<String>, value: XlaOp) {
        let home = (value.clone(), 0);
        self.0.insert(name.into(), Tensor { value, home });
    }

    /// Adds under `name` the `value` that begins at `offset` of the flat array `array`.
    pub fn insert_part(
        &mut self,
        name: impl Into<String>,
        value: XlaOp,
        array: &XlaOp,
        offset: usize,
    ) {
        let home = (array.clone(), offset);
        self.0.insert(name.into(), Tensor { value, home });
    }

    /// The value of `name`.
    ///
    /// # Errors
    /// [`GraphError::MissingTensor`] when there is none.
    pub fn get(&self, name: &str) -> Result<&XlaOp> {
        Ok(&self.tensor(name)?.value)
    }

    /// The array that `name` lies in, and its offset there: 0 in itself when it is no part.
    ///
    /// # Errors
    /// [`GraphError::MissingTensor`] when there is none.
    pub fn home(&self, name: &str) -> Result<(&XlaOp, usize)> {
        let (array, offset) = &self.tensor(name)?.home;
        Ok((array, *offset))
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
