//! The values that the processes of a run have put, in the first of them.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pjrt::{KeyValueStore, StoreError, StoreErrorKind};

use crate::system::text;

/// Bytes that a value takes besides its own and its key's.
const OVERHEAD: usize = 128;

/// How often it is asked whether somebody still waits.
const BETWEEN: Duration = Duration::from_millis(200);

/// Bytes of a key that messages show.
const SHOWN: usize = 80;

/// Values by key.
pub struct Table {
    /// The most bytes of all keys and values.
    most: usize,
    kept: Mutex<Kept>,
    /// A value came, or the table was closed.
    changed: Condvar,
}

#[derive(Default)]
struct Kept {
    values: HashMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
    /// Why no more values will come.
    closed: Option<StoreError>,
}

impl Table {
    pub fn new(most: usize) -> Self {
        Self {
            most,
            kept: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// From now on whoever waits for a value, or would, gets `reason` instead. The first reason stays.
    pub fn close(&self, reason: StoreError) {
        self.lock().closed.get_or_insert(reason);
        self.changed.notify_all();
    }

    /// [`KeyValueStore::get`] that waits no longer than `is_wanted` says, which is asked every now and then.
    pub fn get_while(
        &self,
        key: &[u8],
        timeout: Duration,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Vec<u8>, StoreError> {
        let start = Instant::now();
        let waits = |kept: &mut Kept| !kept.values.contains_key(key) && kept.closed.is_none();
        let mut kept = self.lock();
        loop {
            let left = timeout.saturating_sub(start.elapsed()).min(BETWEEN);
            let waited = self.changed.wait_timeout_while(kept, left, waits);
            (kept, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if let Some(value) = kept.values.get(key) {
                return Ok(value.clone());
            }
            if let Some(reason) = &kept.closed {
                return Err(reason.clone());
            }
            if start.elapsed() >= timeout || !is_wanted() {
                let seconds = timeout.as_secs_f64();
                let key = shown(key);
                let message = format!("no process gave the key `{key}` a value within {seconds} s");
                return Err(StoreError::new(StoreErrorKind::TimedOut, message));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyValueStore for Table {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let mut kept = self.lock();
        if let Some(before) = kept.values.get(key) {
            let message = || format!("the key `{}` has another value already", shown(key));
            return match before == value {
                true => Ok(()),
                false => Err(StoreError::new(StoreErrorKind::AlreadyThere, message())),
            };
        }
        let bytes = kept.bytes + key.len() + value.len() + OVERHEAD;
        if bytes > self.most {
            let message = format!(
                "the value of the key `{}`, {} bytes, is too much: expected at most {} bytes of all keys and values",
                shown(key),
                value.len(),
                self.most
            );
            return Err(StoreError::new(StoreErrorKind::Full, message));
        }
        kept.bytes = bytes;
        kept.values.insert(key.to_vec(), value.to_vec());
        self.changed.notify_all();
        Ok(())
    }

    fn get(&self, key: &[u8], timeout: Duration) -> Result<Vec<u8>, StoreError> {
        self.get_while(key, timeout, || true)
    }

    fn try_get(&self, key: &[u8]) -> Result<Vec<u8>, StoreError> {
        let kept = self.lock();
        if let Some(value) = kept.values.get(key) {
            return Ok(value.clone());
        }
        let message = || format!("the key `{}` has no value yet", shown(key));
        let closed = kept.closed.clone();
        Err(closed.unwrap_or_else(|| StoreError::new(StoreErrorKind::NotFound, message())))
    }
}

/// The beginning of a key, which comes from a plugin or from anybody.
fn shown(key: &[u8]) -> String {
    let beginning = &key[..key.len().min(SHOWN)];
    text::one_line(&String::from_utf8_lossy(beginning)).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    fn kind<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> StoreErrorKind {
        answer.unwrap_err().kind
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_value_is_waited_for_and_stays() {
        let table = Arc::new(Table::new(1000));
        assert_eq!(kind(table.try_get(b"key")), StoreErrorKind::NotFound);
        let waiting = {
            let table = Arc::clone(&table);
            thread::spawn(move || table.get(b"key", LONG))
        };
        table.put(b"other", b"no").unwrap();
        table.put(b"key", b"value").unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), b"value");
        assert_eq!(table.get(b"key", Duration::ZERO).unwrap(), b"value");
        table.put(b"key", b"value").unwrap();
        let second = table.put(b"key", b"another");
        assert_eq!(kind(second), StoreErrorKind::AlreadyThere);
        assert_eq!(table.try_get(b"key").unwrap(), b"value");
    }

    #[test]
    fn a_value_that_does_not_come_is_named() {
        let fault = Table::new(1000).get(b"a\nkey", Duration::from_millis(10));
        let fault = fault.unwrap_err();
        assert_eq!(fault.kind, StoreErrorKind::TimedOut);
        assert_eq!(
            fault.message,
            "no process gave the key `a\\nkey` a value within 0.01 s"
        );
    }

    #[test]
    fn who_waits_hears_when_the_table_is_closed() {
        let table = Arc::new(Table::new(1000));
        table.put(b"before", b"1").unwrap();
        let waiting = {
            let table = Arc::clone(&table);
            thread::spawn(move || table.get(b"key", LONG))
        };
        table.close(StoreError::new(StoreErrorKind::Lost, "first"));
        table.close(StoreError::new(StoreErrorKind::Refused, "second"));
        for answer in [waiting.join().unwrap(), table.try_get(b"key")] {
            assert_eq!(answer.unwrap_err().message, "first");
        }
        assert_eq!(table.get(b"before", LONG).unwrap(), b"1");
    }

    #[test]
    fn more_than_there_is_room_for_is_refused() {
        let table = Table::new(1000);
        let half = vec![0; 500 - OVERHEAD - 1];
        table.put(b"1", &half).unwrap();
        table.put(b"2", &half).unwrap();
        assert_eq!(kind(table.put(b"3", b"")), StoreErrorKind::Full);
        table.put(b"1", &half).unwrap();
    }
}
