//! Files that a test writes and then runs.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes `bytes` to the program file `path`.
///
/// Another process does it. If this one had the file open for writing, a child that another test forks at that moment
/// would have it open too, and running it would fail with "Text file busy" (ETXTBSY) until the child's exec.
pub fn write(path: &Path, bytes: &[u8]) {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Dropped at once, which ends the input.
    shell.stdin.take().unwrap().write_all(bytes).unwrap();
    assert!(shell.wait().unwrap().success(), "{}", path.display());
}
