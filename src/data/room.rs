//! Whether the images of a data set fit in memory, where they stay during a run.

use std::path::Path;

use crate::data::error::DataError;
use crate::system::proc;

/// The share of the free memory that images may take: the network needs some too.
const SHARE: f64 = 0.75;

/// The memory for the images of one data set.
pub(super) struct Room<'a> {
    path: &'a Path,
    /// What to do when there is not enough.
    advice: &'static str,
    /// In bytes.
    most: u64,
    taken: u64,
}

impl<'a> Room<'a> {
    /// The room that there is now for the data set at `path`.
    pub fn of(path: &'a Path, advice: &'static str) -> Self {
        Self::within(path, advice, proc::available_bytes())
    }

    /// [`Room::of`], where `available` bytes are free; `None`: the system does not say.
    pub fn within(path: &'a Path, advice: &'static str, available: Option<u64>) -> Self {
        Self {
            path,
            advice,
            most: available.map_or(u64::MAX, |free| (free as f64 * SHARE) as u64),
            taken: 0,
        }
    }

    /// The bytes that may be taken in all.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// Takes `bytes` more.
    ///
    /// # Errors
    /// [`DataError::Memory`] if that is too much with all that was taken before.
    pub fn take(&mut self, bytes: u64) -> Result<(), DataError> {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken <= self.most {
            return Ok(());
        }
        Err(DataError::Memory {
            path: self.path.to_owned(),
            needed: self.taken,
            most: self.most,
            advice: self.advice,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_quarters_of_the_free_memory_may_be_taken() {
        let path = Path::new("pictures");
        let room = |free| Room::within(path, "take fewer", free);
        assert!(room(Some(1000 << 20)).take(750 << 20).is_ok());
        assert!(room(None).take(u64::MAX).is_ok());
        let mut small = room(Some(2 << 30));
        small.take(1 << 30).unwrap();
        assert_eq!(
            small.take(2 << 30).unwrap_err().to_string(),
            "pictures: its images take 3.00 GiB of memory, and 1.50 GiB may be used, three quarters of what is free; \
             take fewer"
        );
    }
}
