//! Whether the images of a data set fit in memory, where they stay during a run.

use std::path::Path;

use crate::data::error::DataError;
use crate::system::proc;

/// The share of the free memory that images may take: the network needs some too.
const SHARE: f64 = 0.75;

/// Refuses images of the data set at `path` that would take `bytes` of memory; `advice` says what to do then.
pub(super) fn check(path: &Path, bytes: u64, advice: &'static str) -> Result<(), DataError> {
    check_within(path, bytes, proc::available_bytes(), advice)
}

/// [`check`], where `available` bytes are free; `None`: the system does not say.
fn check_within(
    path: &Path,
    bytes: u64,
    available: Option<u64>,
    advice: &'static str,
) -> Result<(), DataError> {
    let most = available.map_or(u64::MAX, |free| (free as f64 * SHARE) as u64);
    if bytes <= most {
        return Ok(());
    }
    Err(DataError::Memory {
        path: path.to_owned(),
        needed: bytes,
        most,
        advice,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_quarters_of_the_free_memory_may_be_taken() {
        let path = Path::new("pictures");
        let check = |bytes, free| check_within(path, bytes, free, "take fewer");
        assert!(check(750 << 20, Some(1000 << 20)).is_ok());
        assert!(check(u64::MAX, None).is_ok());
        assert_eq!(
            check(3 << 30, Some(2 << 30)).unwrap_err().to_string(),
            "pictures: its images take 3.00 GiB of memory, and 1.50 GiB may be used, three quarters of what is free; \
             take fewer"
        );
    }
}
