//! Labels and the names of their classes.

use std::path::Path;

use super::columns::wrong;
use super::rows::Shard;
use crate::data::error::DataError;

/// As many classes as a label can tell apart, less one.
const MOST_CLASSES: i64 = u16::MAX as i64;

/// The label of each row of each part.
type Labels<T> = [Option<Vec<T>>; 3];

/// The labels of each part by class, and the classes' `names`: where the files have none, the numbers.
///
/// # Errors
/// A label without a name, or one that is too large; fewer than two classes.
pub fn check(
    shards: &[Shard],
    labels: Labels<i64>,
    names: Option<Vec<String>>,
) -> Result<(Labels<u16>, Vec<String>), DataError> {
    let first = shards.first().map_or(Path::new(""), |shard| &shard.path);
    let classes = match &names {
        Some(names) => names.len() as i64,
        None => {
            let trained_on = labels[0].iter().flatten();
            let largest = trained_on.max().copied().unwrap_or(0);
            largest.clamp(0, MOST_CLASSES - 1) + 1
        }
    };
    if classes < 2 {
        let reason = format!("expected labels of two or more classes, got {classes}");
        return Err(wrong(first, reason));
    }
    let mut rows = labels.iter().flatten().flatten();
    for shard in shards {
        for (row, label) in rows.by_ref().take(shard.rows).enumerate() {
            if !(0..classes).contains(label) {
                let last = classes - 1;
                let reason = format!("row {row}: expected a label from 0 to {last}, got {label}");
                return Err(wrong(&shard.path, reason));
            }
        }
    }
    // All of them were found to be below the number of classes.
    let small = |labels: Vec<i64>| labels.into_iter().map(|label| label as u16).collect();
    let numbers = || (0..classes).map(|class| class.to_string()).collect();
    Ok((
        labels.map(|part| part.map(small)),
        names.unwrap_or_else(numbers),
    ))
}
