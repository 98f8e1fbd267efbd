//! The store as a plugin gets it: what it says of the end of another process is kept, because plugins put it into words of
//! their own, or into none.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pjrt::{KeyValueStore, StoreError, StoreErrorKind};

pub struct Overheard {
    store: Arc<dyn KeyValueStore>,
    lost: OnceLock<StoreError>,
}

impl Overheard {
    pub fn new(store: Arc<dyn KeyValueStore>) -> Self {
        Self {
            store,
            lost: OnceLock::new(),
        }
    }

    /// What it has said first of the end of another process.
    pub fn heard(&self) -> Option<StoreError> {
        self.lost.get().cloned()
    }

    fn note<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        answer.inspect_err(|error| {
            if error.kind == StoreErrorKind::Lost {
                self.lost.get_or_init(|| error.clone());
            }
        })
    }
}

impl KeyValueStore for Overheard {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.note(self.store.put(key, value))
    }

    fn get(&self, key: &[u8], timeout: Duration) -> Result<Vec<u8>, StoreError> {
        self.note(self.store.get(key, timeout))
    }

    fn try_get(&self, key: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.note(self.store.try_get(key))
    }
}
