//! Says whether a file is a PJRT plugin for this machine. The dynamic loader's own message for a library
//! that was built for another processor is "no such file".

use std::fs::File;
use std::io::Read;
use std::path::Path;

use pjrt::PjrtError;

/// Why a file cannot be loaded as a plugin here.
#[derive(Debug, thiserror::Error)]
pub enum PluginFileError {
    #[error("it is not there")]
    Missing,
    #[error("it cannot be read: {0}")]
    Read(std::io::Error),
    #[error("it is not a shared library: expected an ELF file, got one that starts with `{start}`")]
    NoLibrary { start: String },
    #[error("it is built for {got}, this machine is {expected}")]
    Machine { got: String, expected: &'static str },
    #[error(transparent)]
    Interface(#[from] PjrtError),
}

/// Checks that `path` can be loaded and offers the PJRT C API, without starting it.
pub fn check(path: &Path) -> Result<(), PluginFileError> {
    if !path.exists() {
        return Err(PluginFileError::Missing);
    }
    let mut header = Vec::new();
    File::open(path)
        .and_then(|file| file.take(HEADER as u64).read_to_end(&mut header))
        .map_err(PluginFileError::Read)?;
    check_header(&header)?;
    Ok(pjrt::check(path)?)
}

/// Bytes of an ELF header up to and with the machine.
const HEADER: usize = 20;
const MAGIC: &[u8] = b"\x7fELF";
const BITS_64: u8 = 2;
/// Where in the header the word size and the machine are.
const CLASS_AT: usize = 4;
const MACHINE_AT: usize = 18;

/// This machine's number in ELF headers, and its name.
#[cfg(target_arch = "x86_64")]
const OWN_MACHINE: (u16, &str) = (62, "x86-64");
#[cfg(target_arch = "aarch64")]
const OWN_MACHINE: (u16, &str) = (183, "aarch64");

fn check_header(header: &[u8]) -> Result<(), PluginFileError> {
    if header.len() < HEADER || !header.starts_with(MAGIC) {
        let start = header[..header.len().min(16)].escape_ascii().to_string();
        return Err(PluginFileError::NoLibrary { start });
    }
    let machine = u16::from_le_bytes([header[MACHINE_AT], header[MACHINE_AT + 1]]);
    if machine == OWN_MACHINE.0 && header[CLASS_AT] == BITS_64 {
        return Ok(());
    }
    let got = match machine {
        3 => "32-bit x86".to_owned(),
        40 => "32-bit ARM".to_owned(),
        62 => "x86-64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "RISC-V".to_owned(),
        other => format!("ELF machine {other}"),
    };
    Err(PluginFileError::Machine {
        got,
        expected: OWN_MACHINE.1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(header: &[u8]) -> String {
        check_header(header).unwrap_err().to_string()
    }

    #[test]
    fn the_library_that_this_test_runs_in_is_for_this_machine() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        check_header(&own[..HEADER]).unwrap();
    }

    #[test]
    fn another_processor_is_named() {
        let mut header = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        header.truncate(HEADER);
        header[MACHINE_AT..].copy_from_slice(&8u16.to_le_bytes());
        assert!(
            refusal(&header).contains("ELF machine 8"),
            "{}",
            refusal(&header)
        );
        header[MACHINE_AT..].copy_from_slice(&243u16.to_le_bytes());
        assert!(refusal(&header).contains("built for RISC-V"));
    }

    #[test]
    fn text_and_an_empty_file_are_not_libraries() {
        assert!(refusal(b"#!/bin/sh\necho hello\n").contains("#!/bin/sh"));
        assert!(refusal(b"").contains("not a shared library"));
    }
}
