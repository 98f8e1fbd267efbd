//! Chips that need not be there.

use std::sync::Arc;

use crate::api::{Api, slice_of, text};
use crate::bindings::*;
use crate::error::Result;
use crate::executable::{Executable, hlo_program};

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
        descriptions.iter().map(|&d| self.device_kind(d)).collect()
    }

    fn device_kind(&self, description: *mut PJRT_DeviceDescription) -> Result<String> {
        let mut args = PJRT_DeviceDescription_Kind_Args {
            device_description: description,
            ..Default::default()
        };
        self.api.call(&mut args)?;
        // SAFETY: the plugin returned this text; it lives as long as the description.
        Ok(unsafe { text(args.device_kind, args.device_kind_size) })
    }

    /// Compiles `hlo`, a serialised `HloModuleProto`, with `options`, a serialised
    /// `CompileOptionsProto`.
    pub fn compile(self, hlo: &mut [u8], options: &[u8]) -> Result<Executable> {
        let program = hlo_program(hlo);
        let mut args = PJRT_Compile_Args {
            topology: self.raw,
            program: &program,
            compile_options: options.as_ptr().cast(),
            compile_options_size: options.len(),
            ..Default::default()
        };
        self.api.call(&mut args)?;
        let api = Arc::clone(&self.api);
        Ok(Executable::new(api, args.executable, self))
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        let mut args = PJRT_TopologyDescription_Destroy_Args {
            topology: self.raw,
            ..Default::default()
        };
        // A failure to free leaves nobody to tell and nothing to do.
        let _ = self.api.call(&mut args);
    }
}
