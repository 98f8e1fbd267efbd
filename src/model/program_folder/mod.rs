//! Traced computations in a folder: made on one machine, run on another without tracing.
//!
//! ```text
//!  program.json        version, settings, formulation, layout of the state, signatures
//!  train_step.hlo.pb   the computations: serialised HloModuleProtos
//!  eval_step.hlo.pb
//!  predict_step.hlo.pb
//!  SHA256SUMS          of all these files, as `sha256sum -c` reads it; written last
//! ```

mod error;
mod manifest;
mod signature;
mod sums;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xla_graphs::ops::Lowering;
use xla_graphs::table::NETWORK_ARRAYS;
use xla_graphs::{Layout, Model, eval_step, predict_step, train_step};

use crate::device::{self, DeviceKind};
use crate::model::choose::{self, ModelSettings};
use crate::system::files::{self, Disk, Storage};
use crate::system::sha256;
pub use error::ProgramFolderError;
use manifest::{MANIFEST, Manifest};
use sums::{SUMS, Sums};

/// The computations of a run by name.
const COMPUTATIONS: [(&str, Trace); 3] = [
    ("train_step", train_step),
    ("eval_step", eval_step),
    ("predict_step", predict_step),
];

/// A longer file is no manifest.
const MANIFEST_LIMIT: u64 = 64 << 20;

type Trace = fn(&Model) -> xla_graphs::Result<Vec<u8>>;

/// What a command does with the computations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Training,
    /// Evaluation or prediction, which do not read all settings.
    Inference,
}

/// A folder with traced computations, whose files were read and checked.
pub struct ProgramFolder {
    path: PathBuf,
    manifest: Manifest,
    sums: Sums,
}

/// Traces the computations of `settings` for devices of kind `device` and writes them to the folder `path`.
/// `config` is the text of all settings, for whoever runs them.
///
/// # Errors
/// A folder that has other files; one that cannot be written to.
pub fn write(
    path: &Path,
    settings: &ModelSettings,
    device: DeviceKind,
    config: String,
) -> Result<()> {
    check_vacant(path)?;
    let model = choose::build(settings, device)?;
    let mut manifest = Manifest::new(settings, device, &model, config);
    fs::create_dir_all(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))?;
    // A folder without sums is no program, so one that was not completely written is not taken for one.
    match fs::remove_file(path.join(SUMS)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error)
            .with_context(|| format!("cannot replace the program in {}", path.display()))?,
        _ => {}
    }
    let mut sums = Sums::default();
    for (name, trace) in COMPUTATIONS {
        let hlo = trace(&model).with_context(|| format!("tracing {name}"))?;
        manifest.sign(name, &hlo)?;
        let file = file_name(name);
        files::write_bytes(&path.join(&file), &hlo)?;
        sums.add(&file, &hlo);
    }
    let text = manifest.to_json()?;
    files::write_text(&path.join(MANIFEST), &text)?;
    sums.add(MANIFEST, text.as_bytes());
    Ok(files::write_text(&path.join(SUMS), &sums.to_string())?)
}

/// Refuses a folder that has anything but an earlier program.
fn check_vacant(path: &Path) -> Result<(), ProgramFolderError> {
    let Ok(mut entries) = fs::read_dir(path) else {
        return match path.exists() {
            true => Err(ProgramFolderError::Occupied(path.to_owned())),
            false => Ok(()),
        };
    };
    let all_ours = entries.all(|entry| {
        let name = entry.map(|entry| entry.file_name());
        name.is_ok_and(|name| is_ours(&name.to_string_lossy()))
    });
    let manifest = path.join(MANIFEST);
    // Other programs have files of this name too.
    let replaceable = match Disk.read(&manifest, MANIFEST_LIMIT) {
        Ok(text) => Manifest::is_one(&text),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    match all_ours && replaceable {
        true => Ok(()),
        false => Err(ProgramFolderError::Occupied(path.to_owned())),
    }
}

/// Whether a file called `name` is one of a program's, or was to become one.
fn is_ours(name: &str) -> bool {
    let name = files::temporary_target(name).unwrap_or(name);
    let mut computations = COMPUTATIONS.iter();
    name == MANIFEST || name == SUMS || computations.any(|(of, _)| name == file_name(of))
}

fn file_name(computation: &str) -> String {
    format!("{computation}.hlo.pb")
}

impl ProgramFolder {
    /// Reads what the folder `path` says of itself, and checks all its files: whoever opens it may rely on them before
    /// removing or writing anything.
    ///
    /// # Errors
    /// A folder without a program, one of another version, and one whose files are not those that were written.
    pub fn open(path: &Path) -> Result<Self, ProgramFolderError> {
        let sums = Sums::read(path)?;
        let text = sums.read_checked(path, MANIFEST)?;
        let manifest = Manifest::parse(&path.join(MANIFEST), &text)?;
        for (name, _) in COMPUTATIONS {
            let file = file_name(name);
            let hlo = sums.read_checked(path, &file)?;
            manifest.check_signature(&path.join(file), name, &hlo)?;
        }
        Ok(Self {
            manifest,
            path: path.to_owned(),
            sums,
        })
    }

    /// The error for the computation `name`, which a device of kind `device` could not compile.
    pub fn not_compiled(
        &self,
        name: &str,
        device: DeviceKind,
        error: &anyhow::Error,
    ) -> ProgramFolderError {
        let of_xla = error.chain().find_map(device::xla_message);
        let reason = of_xla.unwrap_or_else(|| format!("{error:#}"));
        ProgramFolderError::Compile {
            folder: self.path.clone(),
            computation: name.to_owned(),
            device,
            reason,
        }
    }

    /// The text of all settings that the computations were made with.
    pub fn config(&self) -> &str {
        &self.manifest.config
    }

    /// Where that text is, for messages.
    pub fn manifest_path(&self) -> PathBuf {
        self.path.join(MANIFEST)
    }

    /// What shaped the computations.
    pub fn settings(&self) -> &ModelSettings {
        &self.manifest.settings
    }

    /// Images in a step, over all replicas.
    pub fn batch_size(&self) -> usize {
        self.manifest.settings.batch_size
    }

    /// Devices that share a step.
    pub fn replicas(&self) -> usize {
        self.manifest.settings.replicas
    }

    /// The model of the computations, for a command that asks for `settings` on a device of kind `device`. What
    /// `settings` leave to the device is as the computations were made.
    ///
    /// # Errors
    /// Settings that the computations were not made with; a device that they were not made for.
    pub fn model(&self, settings: &ModelSettings, used: Use, device: DeviceKind) -> Result<Model> {
        self.manifest.check_settings(&self.path, settings, used)?;
        self.manifest.check_device(&self.path, device)?;
        let settings = ModelSettings {
            precision: self.manifest.settings.precision,
            units: self.manifest.settings.units,
            ..*settings
        };
        let lowering = Lowering::from(self.manifest.formulation);
        let model = choose::build_as(&settings, device, lowering)?;
        self.check_layout(&model.layout(), used)?;
        Ok(model)
    }

    /// Refuses a program whose arrays have their tensors in another order than this version has.
    fn check_layout(&self, layout: &Layout, used: Use) -> Result<(), ProgramFolderError> {
        let (made, mut ours) = (&self.manifest.layout, manifest::layout_of(layout));
        if used == Use::Inference {
            ours.truncate(NETWORK_ARRAYS);
        }
        match made.starts_with(&ours) {
            true => Ok(()),
            false => Err(ProgramFolderError::Layout(self.path.clone())),
        }
    }

    /// The computation `name`, a serialised `HloModuleProto`.
    ///
    /// # Errors
    /// A file that is not there, or is not the one that was written.
    pub fn hlo(&self, name: &str) -> Result<Vec<u8>, ProgramFolderError> {
        self.sums.read_checked(&self.path, &file_name(name))
    }

    /// A sum over all files.
    pub fn digest(&self) -> String {
        sha256::sum(self.sums.to_string().as_bytes())
    }
}
