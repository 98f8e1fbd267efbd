//! Standard output, where commands print their results.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Stdout, Write};

use anyhow::Result;
use serde::Serialize;

use crate::system::text;

/// Standard output. Once its reader has gone away (`resnet-xla man | head`), output is dropped and the command still
/// finishes its work. Escape sequences in names do not reach the terminal.
pub struct Output(Stdout);

pub fn stdout() -> Output {
    Output(io::stdout())
}

/// Prints `value` as indented JSON.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value)?;
    writeln!(stdout(), "{}", text::json_for_terminal(&json))?;
    Ok(())
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (text, length) = beginning(bytes);
        forgive(self.0.write_all(text::for_terminal(&text).as_bytes()), ())?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        forgive(self.0.flush(), ())
    }
}

/// The valid UTF-8 text at the start of `bytes`, and its length in bytes. If there is none, all of `bytes` with
/// replacement characters.
fn beginning(bytes: &[u8]) -> (Cow<'_, str>, usize) {
    let valid = match std::str::from_utf8(bytes) {
        Err(error) if error.valid_up_to() > 0 => &bytes[..error.valid_up_to()],
        _ => bytes,
    };
    (String::from_utf8_lossy(valid), valid.len())
}

/// `result`, or `done` if it failed because the reader has gone away.
fn forgive<T>(result: io::Result<T>, done: T) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(done),
        Err(error) => {
            let message = format!("cannot write to standard output: {error}");
            Err(io::Error::new(error.kind(), message))
        }
        result => result,
    }
}
