//! Arrays that begin where a cache line does.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::slice;

use crate::ffi::Element;

/// Bytes of a cache line, and of the largest register.
const LINE: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// Elements that begin with a cache line, so that a register of them lies in one line and not in two.
pub struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    elements: PhantomData<T>,
}

impl<T: Element> Aligned<T> {
    /// So many elements, all bits of which are zero.
    #[inline(never)]
    pub fn zeros(len: usize) -> Self {
        const { assert!(align_of::<T>() <= LINE) };
        let lines = (len * size_of::<T>()).div_ceil(LINE);
        Self {
            lines: vec![Line([0; LINE]); lines],
            len,
            elements: PhantomData,
        }
    }
}

impl<T: Element> From<&[T]> for Aligned<T> {
    #[inline(never)]
    fn from(values: &[T]) -> Self {
        let mut aligned = Self::zeros(values.len());
        aligned.copy_from_slice(values);
        aligned
    }
}

impl<T: Element> Deref for Aligned<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: the lines have room for so many elements, all bits are one, and `zeros` has checked the alignment.
        unsafe { slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Element> DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`; nobody else has the lines meanwhile.
        unsafe { slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
