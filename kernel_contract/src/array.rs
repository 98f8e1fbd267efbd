//! An array between graph and kernels.

use crate::format::Format;

/// The type of an array, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    pub format: Format,
    pub dims: Vec<usize>,
}

impl Array {
    pub(crate) fn f32(dims: &[usize]) -> Self {
        Self::of(Format::F32, dims)
    }

    /// `rows` of this one.
    pub(crate) fn rows(&self, rows: usize) -> Self {
        Self::of(self.format, &[&[rows], &self.dims[..]].concat())
    }

    pub(crate) fn of(format: Format, dims: &[usize]) -> Self {
        let dims = dims.to_vec();
        Self { format, dims }
    }
}
