//! Programs for a device: compiled, or found among those that were compiled before.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::device::Device;
use crate::device::backend::Executable;
use crate::device::compile_cache::{self, CompileCache};
use crate::device::saved_executable::{SavedExecutable, SavedExecutableError};
use crate::system::sha256;

/// A program that can run.
pub struct Compiled {
    pub executable: Box<dyn Executable>,
    pub origin: Origin,
    /// How long it took to compile, now or at an earlier time.
    pub compiling: Duration,
}

/// A program that was looked for among those that were compiled before.
pub struct Sought {
    /// None where it is still to be compiled.
    found: Option<Compiled>,
    hlo: Vec<u8>,
    replicas: usize,
    /// Where the cache keeps it, if there is one.
    file: Option<PathBuf>,
}

impl Sought {
    /// The SHA-256 sum of the program as it was traced.
    pub fn digest(&self) -> String {
        sha256::sum(&self.hlo)
    }

    /// The program, if it was compiled before.
    pub fn found(&self) -> Option<&Compiled> {
        self.found.as_ref()
    }
}

/// Where a program that can run comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    Compiler,
    /// It was kept at an earlier start
    Cache,
    /// The user named a file
    File,
}

impl Device {
    /// Compiles `hlo`, a serialised `HloModuleProto`, for the devices of `replicas` replicas.
    pub fn compile(&self, hlo: &[u8], replicas: usize) -> Result<Box<dyn Executable>> {
        self.backend.compile(hlo, replicas)
    }

    /// The same device, which keeps compiled programs in the folder `named` ([`CompileCache::chosen`]), if they can be
    /// kept.
    pub fn with_cache(self, named: Option<&Path>) -> Self {
        let can_keep = self.backend.identity(self.replicas).is_some();
        if !can_keep && named.is_some_and(|folder| folder != Path::new(compile_cache::NONE)) {
            log::info!(
                "--compile-cache has no effect on this device ({}): what it compiles cannot be kept",
                self.description()
            );
        }
        let cache = match can_keep {
            true => CompileCache::chosen(named),
            false => None,
        };
        Self { cache, ..self }
    }

    /// The same device, which loads the compiled programs in these `files`.
    ///
    /// # Errors
    /// A file that is damaged, or was compiled for other devices or by another plugin.
    pub fn with_executables(self, files: &[PathBuf]) -> Result<Self, SavedExecutableError> {
        let mut saved = Vec::new();
        for file in files {
            let executable = SavedExecutable::read(file)?;
            match self.backend.compiler() {
                Some(compiler) => executable.check_device(compiler, self.replicas)?,
                None => return Err(executable.unsupported(self.description())),
            }
            saved.push(executable);
        }
        Ok(Self { saved, ..self })
    }

    /// The program `name`, whose computation is `hlo`, for the devices of `replicas` replicas: loaded from a file of
    /// [`Self::with_executables`], loaded from the cache, or compiled, which is kept.
    pub fn load_or_compile(&self, name: &str, hlo: Vec<u8>, replicas: usize) -> Result<Compiled> {
        self.compile_unless_found(self.look_for(name, hlo, replicas)?)
    }

    /// Whether a file of [`Self::with_executables`] has the program `name`.
    pub fn has_saved(&self, name: &str) -> bool {
        self.saved_as(name).is_some()
    }

    fn saved_as(&self, name: &str) -> Option<&SavedExecutable> {
        let mut saved = self.saved.iter();
        saved.find(|saved| saved.about.computation == name)
    }

    /// The part of [`Self::load_or_compile`] that takes no compiling; `hlo` is a serialised `HloModuleProto`.
    pub fn look_for(&self, name: &str, hlo: Vec<u8>, replicas: usize) -> Result<Sought> {
        let mut sought = Sought {
            hlo,
            replicas,
            found: None,
            file: None,
        };
        if let Some(saved) = self.saved_as(name) {
            sought.found = Some(self.load_saved(saved, &sought.hlo)?);
        } else if let (Some(cache), Some(identity)) = (&self.cache, self.backend.identity(replicas))
        {
            let file = cache.file_of(&[identity, vec![sha256::sum(&sought.hlo)]].concat());
            sought.found = self.load_kept(cache, &file, replicas);
            sought.file = Some(file);
        }
        Ok(sought)
    }

    /// The program in `file` of the cache, if it is there and can be loaded.
    fn load_kept(&self, cache: &CompileCache, file: &Path, replicas: usize) -> Option<Compiled> {
        let kept = cache.load(file)?;
        match self.backend.load(&kept.executable, replicas) {
            Ok(executable) => Some(Compiled {
                executable,
                origin: Origin::Cache,
                compiling: kept.compiling,
            }),
            Err(error) => {
                log::warn!(
                    "{} cannot be loaded, so the program is compiled again: {error}",
                    file.display()
                );
                None
            }
        }
    }

    /// The rest of [`Self::load_or_compile`].
    pub fn compile_unless_found(&self, sought: Sought) -> Result<Compiled> {
        if let Some(found) = sought.found {
            return Ok(found);
        }
        let start = Instant::now();
        let compiled = Compiled {
            executable: self.backend.compile(&sought.hlo, sought.replicas)?,
            origin: Origin::Compiler,
            compiling: start.elapsed(),
        };
        if let (Some(cache), Some(file)) = (&self.cache, &sought.file) {
            match compiled.executable.to_bytes() {
                Ok(bytes) => cache.store(file, &bytes, compiled.compiling),
                Err(error) => log::debug!("the compiled program is not kept: {error}"),
            }
        }
        Ok(compiled)
    }

    fn load_saved(&self, saved: &SavedExecutable, hlo: &[u8]) -> Result<Compiled> {
        saved.check_program(hlo)?;
        let executable = self.backend.load(&saved.executable, self.replicas);
        Ok(Compiled {
            executable: executable.map_err(|error| saved.refused(&error))?,
            origin: Origin::File,
            compiling: Duration::try_from_secs_f64(saved.about.compile_s).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceKind;
    use crate::device::backend::{Backend, DeviceArray, Values};

    /// Devices whose compiled programs have no bytes.
    struct Keepless;

    impl Backend for Keepless {
        fn device_count(&self) -> usize {
            1
        }

        fn device_kind(&self) -> &str {
            "keepless"
        }

        fn report(&self) -> Result<Vec<String>> {
            Ok(Vec::new())
        }

        fn compile(&self, _hlo: &[u8], _replicas: usize) -> Result<Box<dyn Executable>> {
            anyhow::bail!("there is no compiler")
        }

        fn upload(&self, _: Values, _: &[usize], _: usize) -> Result<Box<dyn DeviceArray>> {
            anyhow::bail!("there is no memory")
        }
    }

    #[test]
    fn a_device_whose_programs_cannot_be_kept_gets_no_cache() {
        let folder = tempfile::tempdir().unwrap();
        let named = folder.path().join("cache");
        let device = Device::new(Box::new(Keepless), DeviceKind::Other).with_cache(Some(&named));
        assert!(device.cache.is_none() && !named.exists());
        let error = device.load_or_compile("train_step", Vec::new(), 1);
        assert_eq!(error.err().unwrap().to_string(), "there is no compiler");
    }
}
