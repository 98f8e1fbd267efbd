//! Tensors of one computation, by name.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use xla::XlaOp;

use crate::arrays::{len_of, to_i64};
use crate::error::{GraphError, Result};
use crate::table::TensorSpec;

/// Graph values by tensor name: parameters on the way in, gradients or new values on the way out.
#[derive(Default)]
pub struct Tensors(BTreeMap<String, Entry>);

/// A value, under the name of its first tensor.
struct Entry {
    value: XlaOp,
    /// Where in a flat array the value lies.
    home: Place,
    /// The tensors that lie one after another in the value: one, or those of a block.
    names: Vec<String>,
}

/// A position in an array.
#[derive(Clone)]
pub struct Place {
    pub array: XlaOp,
    /// In values.
    pub offset: usize,
    /// In a loop: the number of the round, and how much further on each round begins.
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

    /// Adds the tensor `name`, in place of an earlier one.
    pub fn insert(&mut self, name: impl Into<String>, value: XlaOp) {
        let (name, home) = (name.into(), Place::new(&value, 0));
        self.put(vec![name], value, home);
    }

    /// Adds a block: the tensors of `specs` one after another in one value.
    ///
    /// # Errors
    /// [`GraphError::Block`] when the value does not end where the last tensor does.
    pub fn insert_block<T: Borrow<TensorSpec>>(&mut self, specs: &[T], value: XlaOp) -> Result<()> {
        let names = names(specs);
        check_block(&names, total_len(specs), &names, &value)?;
        let home = Place::new(&value, 0);
        self.put(names, value, home);
        Ok(())
    }

    fn put(&mut self, names: Vec<String>, value: XlaOp, home: Place) {
        if let Some(first) = names.first().cloned() {
            self.0.insert(first, Entry { value, home, names });
        }
    }

    /// Adds the tensors of `specs`, which lie one after another in `values`. The same values lie in
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
            self.put(vec![spec.name.clone()], value, home);
            start = end;
        }
        Ok(())
    }

    /// The tensors of `specs` one after another, as a vector. Blocks go in whole.
    ///
    /// # Errors
    /// [`GraphError::MissingTensor`] when a tensor is not there, and [`GraphError::Block`] when a value
    /// has other tensors than those that `specs` names there, or ends elsewhere.
    pub fn join<T: Borrow<TensorSpec>>(&self, specs: &[T]) -> Result<XlaOp> {
        let mut parts = Vec::new();
        let mut rest = specs;
        while let Some(first) = rest.first() {
            let entry = self.entry(&first.borrow().name)?;
            let (here, behind) = rest.split_at(entry.names.len().min(rest.len()));
            check_block(&names(here), total_len(here), &entry.names, &entry.value)?;
            let len = len_of(&entry.value)?;
            parts.push(entry.value.reshape(&[len as i64])?);
            rest = behind;
        }
        let (first, rest) = parts.split_first().ok_or(GraphError::NoTensors)?;
        Ok(first.concat_in_dim(rest, 0)?)
    }

    /// The value of the tensor `name`.
    ///
    /// # Errors
    /// [`GraphError::MissingTensor`] when there is none, [`GraphError::Block`] when it is the first of a
    /// block.
    pub fn get(&self, name: &str) -> Result<&XlaOp> {
        Ok(&self.tensor(name)?.value)
    }

    /// The value of the block that begins with the tensor `first`.
    ///
    /// # Errors
    /// [`GraphError::MissingTensor`] when there is none.
    pub fn block(&self, first: &str) -> Result<&XlaOp> {
        Ok(&self.entry(first)?.value)
    }

    /// Where the tensor `name` lies: at 0 of itself when it is not part of an array.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn home(&self, name: &str) -> Result<&Place> {
        Ok(&self.tensor(name)?.home)
    }

    fn tensor(&self, name: &str) -> Result<&Entry> {
        let entry = self.entry(name)?;
        match entry.names.len() {
            1 => Ok(entry),
            count => Err(GraphError::Block {
                first: name.to_owned(),
                expected: "this tensor alone".to_owned(),
                got: format!("a block of {count} tensors"),
            }),
        }
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.0.get(name).ok_or_else(|| GraphError::MissingTensor {
            name: name.to_owned(),
            known: self.0.len(),
        })
    }

    /// Values, each with the name of its first tensor, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &XlaOp)> {
        let tensors = self.0.iter();
        tensors.map(|(name, tensor)| (name.as_str(), &tensor.value))
    }
}

/// Refuses a value with the tensors `got` where `expected` are expected, `len` values in all.
fn check_block(expected: &[String], len: usize, got: &[String], value: &XlaOp) -> Result<()> {
    let first = || expected.first().cloned().unwrap_or_default();
    if got != expected {
        return Err(GraphError::Block {
            first: first(),
            expected: format!("`{}`", expected.join("`, `")),
            got: format!("`{}`", got.join("`, `")),
        });
    }
    match len_of(value)? {
        got if got == len => Ok(()),
        got => Err(GraphError::Block {
            first: first(),
            expected: format!("{len} values"),
            got: got.to_string(),
        }),
    }
}

fn names<T: Borrow<TensorSpec>>(specs: &[T]) -> Vec<String> {
    let names = specs.iter().map(|spec| spec.borrow().name.clone());
    names.collect()
}

fn total_len<T: Borrow<TensorSpec>>(specs: &[T]) -> usize {
    specs.iter().map(|spec| spec.borrow().len()).sum()
}
