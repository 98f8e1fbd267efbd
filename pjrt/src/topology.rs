//! Chips that need not be there.

use std::sync::Arc;

use crate::api::{Api, given, slice_of, text};
use crate::bindings::*;
use crate::device::Description;
use crate::error::{PjrtError, Result};
use crate::executable::Executable;
use crate::program::Program;

/// The chips that a program is compiled for; none of them needs to be there.
pub struct Topology {
    api: Arc<Api>,
    raw: *mut PJRT_TopologyDescription,
}

impl Topology {
    pub(crate) fn new(api: &Arc<Api>, raw: *mut PJRT_TopologyDescription) -> Self {
        let api = Arc::clone(api);
        Self { api, raw }
    }

    /// The kind of each device, in the plugin's words, for example `TPU v5 lite`.
    pub fn device_kinds(&self) -> Result<Vec<String>> {
        let mut args = PJRT_TopologyDescription_GetDeviceDescriptions_Args {
            topology: self.raw,
            ..Default::default()
        };
        self.api.call(&mut args)?;
        // SAFETY: the plugin returned this array; it lives as long as the topology.
        let descriptions = unsafe { slice_of(args.descriptions, args.num_descriptions) };
        let kinds = descriptions.iter().map(|&raw| {
            let raw = given::<PJRT_TopologyDescription_GetDeviceDescriptions_Args, _>(
                raw,
                "description",
            )?;
            // SAFETY: it lives as long as the topology.
            let description = unsafe { Description::new(&self.api, raw) };
            description.kind()
        });
        kinds.collect()
    }

    /// What the plugin says about its version; none where it says nothing.
    pub fn platform_version(&self) -> Result<Option<String>> {
        let mut args = PJRT_TopologyDescription_PlatformVersion_Args {
            topology: self.raw,
            ..Default::default()
        };
        match self.api.call(&mut args) {
            Err(PjrtError::Unimplemented { .. } | PjrtError::MissingFunction(_)) => {
                return Ok(None);
            }
            called => called?,
        }
        // SAFETY: the plugin returned this text; it lives as long as the topology.
        let version = unsafe { text(args.platform_version, args.platform_version_size) };
        Ok((!version.is_empty()).then_some(version))
    }

    /// Compiles `program` with `options`, a serialised `CompileOptionsProto` ([`crate::compile_options`]).
    pub fn compile(self, program: Program, options: &[u8]) -> Result<Executable> {
        let program = program.as_argument();
        let mut args = PJRT_Compile_Args {
            topology: self.raw,
            program: &program,
            compile_options: options.as_ptr().cast(),
            compile_options_size: options.len(),
            ..Default::default()
        };
        self.api.call(&mut args)?;
        let api = Arc::clone(&self.api);
        let executable = given::<PJRT_Compile_Args, _>(args.executable, "executable")?;
        Ok(Executable::new(api, executable, self))
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        self.api.free(PJRT_TopologyDescription_Destroy_Args {
            topology: self.raw,
            ..Default::default()
        });
    }
}
