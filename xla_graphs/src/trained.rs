//! The part of a flat array that training changes: all of it, but for the tensors of frozen layers.
//!
//! ```text
//!  array   | frozen | trained | frozen | trained |
//!                take ↓         ↓ put
//!  part             | trained | trained |
//! ```

use std::collections::BTreeSet;
use std::ops::Range;

use xla::XlaOp;

use crate::error::{GraphError, Result};
use crate::table::{Array, Layout, Role, TensorSpec};

/// The tensors of an array that training changes, and where they lie.
pub(crate) struct Trained<'a> {
    pub tensors: Vec<&'a TensorSpec>,
    /// In order, with something frozen between them.
    ranges: Vec<Range<usize>>,
    /// Values of the array.
    len: usize,
}

impl<'a> Trained<'a> {
    /// Of `array`, without the tensors that are `frozen`.
    pub fn of(layout: &'a Layout, array: Array, frozen: &[TensorSpec]) -> Self {
        let frozen: BTreeSet<&str> = frozen.iter().map(|spec| spec.name.as_str()).collect();
        let mut trained = Self {
            tensors: Vec::new(),
            ranges: Vec::new(),
            len: 0,
        };
        for spec in layout.tensors_of(array) {
            let place = trained.len..trained.len + spec.len();
            trained.len = place.end;
            if frozen.contains(spec.name.as_str()) {
                continue;
            }
            trained.tensors.push(spec);
            match trained.ranges.last_mut() {
                Some(last) if last.end == place.start => last.end = place.end,
                _ => trained.ranges.push(place),
            }
        }
        trained
    }

    /// Values of the tensors that the L2 penalty counts: the first ones.
    pub fn decaying_len(&self) -> usize {
        let decays = |spec: &&&TensorSpec| spec.role == Role::Weight { decays: true };
        self.tensors
            .iter()
            .filter(decays)
            .map(|spec| spec.len())
            .sum()
    }

    /// The part of `array`, one tensor after another; empty where all are frozen.
    pub fn take(&self, array: &XlaOp) -> Result<XlaOp> {
        if self.ranges.is_empty() {
            return slice(array, &(0..0));
        }
        let parts = self.ranges.iter().map(|range| slice(array, range));
        join(parts.collect::<Result<_>>()?)
    }

    /// `old` with `part` in the place of what [`Self::take`] takes.
    pub fn put(&self, old: &XlaOp, part: &XlaOp) -> Result<XlaOp> {
        let (mut parts, mut end, mut taken) = (Vec::new(), 0, 0);
        for range in &self.ranges {
            if end < range.start {
                parts.push(slice(old, &(end..range.start))?);
            }
            parts.push(slice(part, &(taken..taken + range.len()))?);
            (end, taken) = (range.end, taken + range.len());
        }
        if end < self.len {
            parts.push(slice(old, &(end..self.len))?);
        }
        join(parts)
    }
}

/// The values of `array` in `range`; no operation where that is all of them.
fn slice(array: &XlaOp, range: &Range<usize>) -> Result<XlaOp> {
    if *range == (0..array.dims()?[0]) {
        return Ok(array.clone());
    }
    Ok(array.slice_in_dim(range.start as i64, range.end as i64, 1, 0)?)
}

/// `parts` one after another.
fn join(parts: Vec<XlaOp>) -> Result<XlaOp> {
    let (first, rest) = parts.split_first().ok_or(GraphError::NoTensors)?;
    if rest.is_empty() {
        return Ok(first.clone());
    }
    Ok(first.concat_in_dim(rest, 0)?)
}
