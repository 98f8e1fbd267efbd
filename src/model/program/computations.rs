//! The computations of a program: traced or read, then compiled or loaded, each when it is first needed.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xla_graphs::Model;

use super::Program;
use super::origin::ExecutableOrigin;
use crate::device::backend::Executable;
use crate::device::saved_executable::SavedExecutableError;
use crate::device::{Compiled, Origin, Sought};
use crate::system::memory;

/// One of the computations.
pub(super) struct Step {
    name: &'static str,
    trace: fn(&Model) -> xla_graphs::Result<Vec<u8>>,
    /// What [`Program::look_ahead`] found.
    ahead: Mutex<Option<Ahead>>,
    ready: OnceLock<Ready>,
}

/// A computation that is traced, and that was looked for among those that were compiled before.
struct Ahead {
    sought: Sought,
    /// "traced", or "read" where it was traced elsewhere.
    source: &'static str,
    traced: Duration,
    /// How long it took to look for it, and to load it if it was there.
    looked: Duration,
}

/// A computation that can run.
struct Ready {
    compiled: Compiled,
    origin: ExecutableOrigin,
    /// How long it took to trace it and to compile or to load it.
    took: Duration,
}

impl Step {
    pub(super) fn new(
        name: &'static str,
        trace: fn(&Model) -> xla_graphs::Result<Vec<u8>>,
    ) -> Self {
        Self {
            name,
            trace,
            ahead: Mutex::new(None),
            ready: OnceLock::new(),
        }
    }
}

impl Program<'_> {
    /// Traces the training step and loads it if it was compiled before, and loads what the files of executables have.
    /// What is still to be compiled is left to [`Self::compile_train`].
    ///
    /// # Errors
    /// A file of an executable that is of another computation, or cannot be loaded.
    pub fn look_ahead(&self) -> Result<()> {
        for step in [&self.train, &self.eval, &self.predict] {
            if step.name == self.train.name || self.device.has_saved(step.name) {
                let ahead = self.look_for(step)?;
                *step.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
            }
        }
        Ok(())
    }

    /// Where [`Self::look_ahead`] found the training step; `None` where it is still to be compiled.
    pub fn train_found(&self) -> Option<ExecutableOrigin> {
        let name = self.train.name;
        let kept = self.train.ahead.lock();
        let kept = kept.unwrap_or_else(PoisonError::into_inner);
        let ahead = kept.as_ref()?;
        let found = ahead.sought.found()?;
        Some(ExecutableOrigin::new(
            name,
            found,
            ahead.traced,
            ahead.looked,
        ))
    }

    /// Compiles the training step, or loads it; returns how long that and tracing took.
    pub fn compile_train(&self) -> Result<Duration> {
        Ok(self.ready(&self.train)?.took)
    }

    /// Where the computations that were needed so far came from.
    pub fn origins(&self) -> Vec<ExecutableOrigin> {
        let steps = [&self.train, &self.eval, &self.predict];
        let ready = steps.into_iter().filter_map(|step| step.ready.get());
        ready.map(|ready| ready.origin).collect()
    }

    /// The SHA-256 sum of the training step as it is traced, which is kept for its compilation.
    pub fn train_digest(&self) -> Result<String> {
        let mut kept = self
            .train
            .ahead
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let ahead = match kept.take() {
            Some(ahead) => ahead,
            None => self.look_for(&self.train)?,
        };
        let digest = ahead.sought.digest();
        *kept = Some(ahead);
        Ok(digest)
    }

    pub(super) fn executable<'c>(&self, step: &'c Step) -> Result<&'c dyn Executable> {
        Ok(self.ready(step)?.compiled.executable.as_ref())
    }

    fn ready<'c>(&self, step: &'c Step) -> Result<&'c Ready> {
        if let Some(ready) = step.ready.get() {
            return Ok(ready);
        }
        let found = step
            .ahead
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let ahead = match found {
            Some(ahead) => ahead,
            None => self.look_for(step)?,
        };
        let start = Instant::now();
        let compiled = self.device.compile_unless_found(ahead.sought);
        let compiled = compiled.map_err(|error| self.not_compiled(step, error))?;
        memory::give_back_freed_memory();
        if compiled.origin == Origin::Compiler {
            memory::give_back_library_pages();
        }
        let took = ahead.looked + start.elapsed();
        let origin = ExecutableOrigin::new(step.name, &compiled, ahead.traced, took);
        origin.log(ahead.source);
        Ok(step.ready.get_or_init(|| Ready {
            compiled,
            origin,
            took: ahead.traced + took,
        }))
    }

    /// Traces `step`, or reads it where it was traced before, and looks for it among what was compiled before.
    fn look_for(&self, step: &Step) -> Result<Ahead> {
        let start = Instant::now();
        let (source, hlo) = match &self.folder {
            Some(folder) => ("read", folder.hlo(step.name)?),
            None => {
                let traced = (step.trace)(&self.model);
                let traced = traced.with_context(|| format!("tracing {}", step.name))?;
                ("traced", traced)
            }
        };
        let traced = start.elapsed();
        let (name, replicas) = (step.name, self.model.replicas.0);
        let sought = self.device.look_for(name, hlo, replicas);
        Ok(Ahead {
            sought: sought.map_err(|error| self.not_compiled(step, error))?,
            source,
            traced,
            looked: start.elapsed() - traced,
        })
    }

    /// The `error` of compiling or loading `step`, with what it means here.
    fn not_compiled(&self, step: &Step, error: anyhow::Error) -> anyhow::Error {
        if error.is::<SavedExecutableError>() {
            return error;
        }
        let name = step.name;
        match &self.folder {
            Some(folder) => folder.not_compiled(name, self.device.kind, &error).into(),
            None => error.context(format!("compiling {name}")),
        }
    }
}
