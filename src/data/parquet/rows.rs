//! The pictures of files, one after another, a few of them in memory at a time.

use std::collections::VecDeque;
use std::path::PathBuf;

use super::columns::{Images, Table, wrong};
use crate::data::collection::{Content, Encoded};
use crate::data::error::DataError;

/// Rows that are read at a time.
const AT_ONCE: usize = 16;
const NULL: &str = "the column has no bytes for it; write the data set with its pictures in it";

/// A file and how many rows it has.
pub struct Shard {
    pub path: PathBuf,
    pub rows: usize,
}

/// The pictures of some files.
pub struct Rows {
    shards: VecDeque<Shard>,
    open: Option<Open>,
    /// Of the open file, read and not yet taken.
    waiting: VecDeque<Option<Vec<u8>>>,
}

/// Where a file is being read.
struct Open {
    table: Table,
    shard: Shard,
    images: Option<Images>,
    /// The row group after the one of `images`.
    group: usize,
    /// Rows taken.
    row: usize,
}

impl Rows {
    pub fn of(shards: Vec<Shard>) -> Self {
        Self {
            shards: shards.into(),
            open: None,
            waiting: VecDeque::new(),
        }
    }

    fn read(&mut self) -> Result<Option<Encoded>, DataError> {
        loop {
            let Some(open) = &mut self.open else {
                let Some(shard) = self.shards.pop_front() else {
                    return Ok(None);
                };
                self.open = Some(Open {
                    table: Table::open(&shard.path)?,
                    shard,
                    images: None,
                    group: 0,
                    row: 0,
                });
                continue;
            };
            if open.row == open.shard.rows {
                self.open = None;
                self.waiting.clear();
                continue;
            }
            if let Some(bytes) = self.waiting.pop_front() {
                return Ok(Some(open.picture(bytes)));
            }
            self.waiting = open.next_rows()?.into();
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Encoded, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

impl Open {
    /// The bytes of the next rows, of which there are some.
    fn next_rows(&mut self) -> Result<Vec<Option<Vec<u8>>>, DataError> {
        loop {
            if let Some(images) = &mut self.images {
                let rows = images.next(&self.shard.path, AT_ONCE)?;
                if !rows.is_empty() {
                    return Ok(rows);
                }
            }
            if self.group == self.table.row_groups() {
                let (expected, got) = (self.shard.rows, self.row);
                let reason = format!("expected {expected} pictures, as many as labels, got {got}");
                return Err(wrong(&self.shard.path, reason));
            }
            self.images = Some(self.table.images(self.group)?);
            self.group += 1;
        }
    }

    fn picture(&mut self, bytes: Option<Vec<u8>>) -> Encoded {
        let mut path = self.shard.path.clone().into_os_string();
        path.push(format!(", row {}", self.row));
        self.row += 1;
        Encoded {
            path: path.into(),
            content: bytes.map_or(Content::Missing(NULL), Content::Bytes),
        }
    }
}
