//! From images in memory to batches on time.
//!
//! ```text
//!  order (which image comes when) ─► batches ─► augment ─► resample (and normalise) ─► cutout ─► mix ─► prefetch
//!                                                                                                         ▼
//!                                                                                                      the loop
//!  random: numbers depend only on (seed, epoch, index), so any thread makes the same batch
//! ```

pub mod augment;
pub mod batches;
pub mod cutout;
pub mod mix;
pub mod normalization;
pub mod order;
pub mod prefetch;
pub mod random;
pub mod resample;
mod square;
pub mod views;

use crate::data::dataset::DatasetSpec;
use crate::system::limits;

/// What a label can tell apart.
const MOST_CLASSES: usize = u16::MAX as usize;

/// Refuses image sizes that cannot be batched, and classes that do not fit in a label or cannot be displayed; returns
/// what is wrong.
pub fn check_spec(spec: &DatasetSpec) -> Result<(), String> {
    let (side, classes) = (spec.side, spec.classes());
    // Larger images need other networks, and their batches would not fit in memory.
    if !limits::IMAGE_SIZE.contains(&(side as u64)) {
        let (least, most) = (limits::IMAGE_SIZE.start(), limits::IMAGE_SIZE.end());
        return Err(format!(
            "images of {side} x {side} pixels, expected {least} x {least} to {most} x {most}"
        ));
    }
    if !(1..=MOST_CLASSES).contains(&classes) {
        return Err(format!("{classes} classes, expected 1 to {MOST_CLASSES}"));
    }
    let steers = |name: &&String| name.chars().any(char::is_control);
    match spec.class_names.iter().find(steers) {
        None => Ok(()),
        Some(name) => Err(format!(
            "the class {name:?}, expected a name without control characters"
        )),
    }
}
