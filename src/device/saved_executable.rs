//! A compiled program in a file: compiled on one machine, loaded on another.
//!
//! ```text
//!  resnet-xla executable 1       format and version
//!  3b0f5c...                     SHA-256 of all that follows
//!  {"computation": ...}          what it is and where it runs, on one line
//!  ...                           the executable, in the plugin's own form
//! ```

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::system::files::{self, Disk, Storage};
use crate::system::{proc, sha256, text};

/// The first line is this and the version.
const FORMAT: &str = "resnet-xla executable";
/// Counts up when the file changes.
const VERSION: u32 = 1;
const THIS: &str = concat!("resnet-xla ", env!("CARGO_PKG_VERSION"));
/// No executable has so many bytes.
const LIMIT: u64 = 4 << 30;

/// A compiled program from a file, whose bytes are those that were written.
pub struct SavedExecutable {
    path: PathBuf,
    pub about: About,
    pub executable: Vec<u8>,
}

/// What a file says about the executable in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    written_by: String,
    /// `train_step`, `eval_step` or `predict_step`.
    pub computation: String,
    /// The network and the batch, for people.
    pub described: String,
    /// SHA-256 of the traced computation.
    pub program: String,
    /// What was compiled for, as `compile --target` names it.
    pub target: String,
    /// Devices that run it together.
    pub devices: usize,
    pub compiler: Compiler,
    /// Seconds that it took to compile.
    pub compile_s: f64,
}

/// What compiled a program, and for what kind of device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiler {
    /// What tells one build of the plugin from another.
    pub plugin: String,
    /// The devices, in the plugin's words, for example `TPU v5 lite`.
    pub device: String,
    /// The processor's features, for a program that it runs itself.
    pub processor: Option<String>,
}

impl Compiler {
    /// The plugin in `file`, which says that it is of `version`, for devices of kind `device`. `is_cpu`: they are this
    /// machine's processor.
    pub fn new(
        file: &Path,
        version: &str,
        (major, minor): (i32, i32),
        device: String,
        is_cpu: bool,
    ) -> Self {
        // Some plugins give all their builds the same version.
        let bytes = file.metadata().map_or(0, |facts| facts.len());
        Self {
            plugin: format!("{version}, PJRT C API {major}.{minor}, {bytes} bytes"),
            device,
            processor: is_cpu.then(|| proc::cpu_features().unwrap_or_default()),
        }
    }
}

/// A file that cannot be used as `--load-executable`.
#[derive(Debug, thiserror::Error)]
pub enum SavedExecutableError {
    #[error(
        "cannot read {}: {reason}; --load-executable expects a file that `compile --save-executable` wrote",
        path.display()
    )]
    Read { path: PathBuf, reason: io::Error },
    #[error(
        "{}: {reason}; --load-executable expects a file that `compile --save-executable` wrote, as it wrote it",
        path.display()
    )]
    Content { path: PathBuf, reason: String },
    #[error(
        "{}: expected SHA-256 {expected}, got {got}: the file was changed or cut short; copy it again",
        path.display()
    )]
    Sum {
        path: PathBuf,
        expected: String,
        got: String,
    },
    #[error(
        "{} has {computation} of {described}, traced by {written_by}, and {THIS} is to run another: give the settings \
         that it was compiled with, or compile it again with these",
        path.display()
    )]
    Program {
        path: PathBuf,
        computation: String,
        described: String,
        written_by: String,
    },
    #[error("{} was compiled for {made}, and here is {here}; compile it again for that", path.display())]
    Devices {
        path: PathBuf,
        made: String,
        here: String,
    },
    #[error(
        "{} was compiled by another plugin ({made}) than the one here ({here}); compile it again with this one, or use \
         that one",
        path.display()
    )]
    Plugin {
        path: PathBuf,
        made: String,
        here: String,
    },
    #[error(
        "{} was compiled on a processor with other features, and could crash on this one; compile it again here",
        path.display()
    )]
    Processor { path: PathBuf },
    #[error(
        "{}: this device ({device}) loads no executables; leave --load-executable out",
        path.display()
    )]
    Unsupported { path: PathBuf, device: String },
    #[error("{} cannot be loaded by the plugin: {reason}; compile it again", path.display())]
    Refused { path: PathBuf, reason: String },
}

impl SavedExecutableError {
    /// Whether the device is to blame, or else the file.
    pub fn is_of_device(&self) -> bool {
        matches!(
            self,
            Self::Devices { .. }
                | Self::Plugin { .. }
                | Self::Processor { .. }
                | Self::Unsupported { .. }
                | Self::Refused { .. }
        )
    }
}

/// Describes an executable that was compiled now.
impl About {
    pub fn new(
        computation: &str,
        described: String,
        hlo: &[u8],
        (target, devices): (String, usize),
        compiler: Compiler,
        compile_s: f64,
    ) -> Self {
        Self {
            written_by: THIS.to_owned(),
            computation: computation.to_owned(),
            described,
            program: sha256::sum(hlo),
            target,
            devices,
            compiler,
            compile_s,
        }
    }

    fn devices(&self) -> String {
        let Self {
            target,
            devices,
            compiler,
            ..
        } = self;
        format!("{target} ({devices} x {})", compiler.device)
    }
}

/// Writes `executable`, which `about` is about, to the file `path`.
pub fn write(path: &Path, about: &About, executable: &[u8]) -> anyhow::Result<()> {
    let mut content = serde_json::to_vec(about)?;
    content.push(b'\n');
    content.extend(executable);
    let sum = sha256::sum(&content);
    let mut bytes = format!("{FORMAT} {VERSION}\n{sum}\n").into_bytes();
    bytes.extend(content);
    Ok(files::write_bytes(path, &bytes)?)
}

impl SavedExecutable {
    /// Reads the file `path`.
    ///
    /// # Errors
    /// A file that cannot be read, was not written by this version of the format, or was changed since.
    pub fn read(path: &Path) -> Result<Self, SavedExecutableError> {
        let bytes = Disk.read(path, LIMIT);
        let bytes = bytes.map_err(|reason| SavedExecutableError::Read {
            path: path.to_owned(),
            reason,
        })?;
        Self::parse(path, &bytes)
    }

    /// What the content `bytes` of the file `path` is.
    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, SavedExecutableError> {
        let no_file = |reason: &str| SavedExecutableError::Content {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let (first, rest) = line(bytes).ok_or_else(|| no_file("it is no saved executable"))?;
        let version = first.strip_prefix(FORMAT).map(str::trim);
        let version = version.ok_or_else(|| no_file("it is no saved executable"))?;
        if version.parse() != Ok(VERSION) {
            let reason = format!("it is of version {version}, and {THIS} reads version {VERSION}");
            return Err(no_file(&reason));
        }
        let (expected, content) = line(rest).ok_or_else(|| no_file("it was cut short"))?;
        let got = sha256::sum(content);
        if got != expected {
            return Err(SavedExecutableError::Sum {
                path: path.to_owned(),
                expected: text::one_line(expected).into_owned(),
                got,
            });
        }
        let (about, executable) = line(content).ok_or_else(|| no_file("it says nothing"))?;
        let about = serde_json::from_str(about);
        Ok(Self {
            path: path.to_owned(),
            about: about.map_err(|error| no_file(&format!("it says nothing: {error}")))?,
            executable: executable.to_vec(),
        })
    }

    /// Checks that `devices` devices, for which `here` compiles, can run the executable.
    pub fn check_device(
        &self,
        here: &Compiler,
        devices: usize,
    ) -> Result<(), SavedExecutableError> {
        let (path, made) = (self.path.clone(), &self.about.compiler);
        if made.device != here.device || self.about.devices != devices {
            return Err(SavedExecutableError::Devices {
                path,
                made: self.about.devices(),
                here: format!("{devices} x {}", here.device),
            });
        }
        if made.plugin != here.plugin {
            return Err(SavedExecutableError::Plugin {
                path,
                made: text::one_line(&made.plugin).into_owned(),
                here: text::one_line(&here.plugin).into_owned(),
            });
        }
        match made.processor == here.processor {
            true => Ok(()),
            false => Err(SavedExecutableError::Processor { path }),
        }
    }

    /// Checks that it was compiled from `hlo`.
    pub fn check_program(&self, hlo: &[u8]) -> Result<(), SavedExecutableError> {
        if self.about.program == sha256::sum(hlo) {
            return Ok(());
        }
        let about = self.about.clone();
        Err(SavedExecutableError::Program {
            path: self.path.clone(),
            computation: about.computation,
            described: about.described,
            written_by: about.written_by,
        })
    }

    /// The error for one that `device` cannot load at all.
    pub fn unsupported(&self, device: String) -> SavedExecutableError {
        SavedExecutableError::Unsupported {
            path: self.path.clone(),
            device,
        }
    }

    /// The error for one that the plugin does not load, for this `reason`.
    pub fn refused(&self, reason: &anyhow::Error) -> SavedExecutableError {
        SavedExecutableError::Refused {
            path: self.path.clone(),
            reason: format!("{reason:#}"),
        }
    }
}

/// The first line of `bytes`, if it is text, and what follows it.
fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end]).ok()?;
    Some((line, &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn about(hlo: &[u8]) -> About {
        let compiler = Compiler {
            plugin: "one\nof May, PJRT C API 0.1, 7 bytes".to_owned(),
            device: "TPU v5 lite".to_owned(),
            processor: None,
        };
        let target = ("v5e:2x4".to_owned(), 8);
        About::new("train_step", "a net".to_owned(), hlo, target, compiler, 9.5)
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.exe");
        write(&path, &about(b"hlo"), b"co\nde\0").unwrap();
        let saved = SavedExecutable::read(&path).unwrap();
        assert_eq!(saved.about, about(b"hlo"));
        assert_eq!(saved.executable, b"co\nde\0");
        assert!(saved.check_program(b"hlo").is_ok());
        let error = saved.check_program(b"another").unwrap_err();
        assert!(!error.is_of_device());
        assert!(error.to_string().contains("train_step of a net"), "{error}");
    }

    #[test]
    fn no_byte_can_change_or_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.exe");
        write(&path, &about(b"hlo"), b"code").unwrap();
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            for bytes in [&bytes[..], &whole[..place]] {
                let error = SavedExecutable::parse(&path, bytes).err();
                let error = error.unwrap_or_else(|| panic!("byte {place}"));
                assert!(!error.is_of_device(), "{error}");
            }
        }
        let later = format!("{FORMAT} 2\nfuture");
        let error = SavedExecutable::parse(&path, later.as_bytes()).err();
        let error = error.unwrap().to_string();
        assert!(error.contains("it is of version 2"), "{error}");
    }

    #[test]
    fn another_plugin_and_other_devices_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.exe");
        write(&path, &about(b"hlo"), b"code").unwrap();
        let saved = SavedExecutable::read(&path).unwrap();
        let here = saved.about.compiler.clone();
        assert!(saved.check_device(&here, 8).is_ok());
        let message = |here: &Compiler, devices| {
            let error = saved.check_device(here, devices).unwrap_err();
            assert!(error.is_of_device());
            error.to_string()
        };
        assert!(
            message(&here, 4).contains("v5e:2x4 (8 x TPU v5 lite), and here is 4 x TPU v5 lite")
        );
        let device = "TPU v4".to_owned();
        let other = Compiler {
            device,
            ..here.clone()
        };
        assert!(message(&other, 8).contains("here is 8 x TPU v4"));
        let plugin = "two".to_owned();
        let other = Compiler {
            plugin,
            ..here.clone()
        };
        assert!(
            message(&other, 8).contains("of May, PJRT C API 0.1, 7 bytes) than the one here (two)")
        );
        let processor = Some("avx".to_owned());
        let other = Compiler { processor, ..here };
        assert!(message(&other, 8).contains("other features"));
    }
}
