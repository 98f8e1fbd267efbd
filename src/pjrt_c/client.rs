//! The devices of this machine.

use std::sync::Arc;

use super::api::Api;
use super::bindings::*;
use super::error::Result;
use super::executable::{CompiledFor, Executable, hlo_program};

/// The devices of this machine that a plugin drives.
pub struct Client {
    api: Arc<Api>,
    raw: *mut PJRT_Client,
}

/// A program on a client's devices.
pub(super) struct Loaded {
    raw: *mut PJRT_LoadedExecutable,
    client: Client,
}

impl Client {
    pub(super) fn new(api: &Arc<Api>, raw: *mut PJRT_Client) -> Self {
        let api = Arc::clone(api);
        Self { api, raw }
    }

    /// Compiles for the client's devices; see [`super::Topology::compile`].
    pub fn compile(self, hlo: &mut [u8], options: &[u8]) -> Result<Executable> {
        let program = hlo_program(hlo);
        let mut args = PJRT_Client_Compile_Args {
            struct_size: PJRT_Client_Compile_Args_STRUCT_SIZE as usize,
            client: self.raw,
            program: &program,
            compile_options: options.as_ptr().cast(),
            compile_options_size: options.len(),
            ..Default::default()
        };
        let function = self.api.table.PJRT_Client_Compile;
        self.api.call("PJRT_Client_Compile", function, &mut args)?;
        let loaded = Loaded {
            raw: args.executable,
            client: self,
        };

        let mut args = PJRT_LoadedExecutable_GetExecutable_Args {
            struct_size: PJRT_LoadedExecutable_GetExecutable_Args_STRUCT_SIZE as usize,
            loaded_executable: loaded.raw,
            ..Default::default()
        };
        let api = Arc::clone(&loaded.client.api);
        let function = api.table.PJRT_LoadedExecutable_GetExecutable;
        api.call("PJRT_LoadedExecutable_GetExecutable", function, &mut args)?;
        let compiled_for = CompiledFor::Client(loaded);
        Ok(Executable::new(api, args.executable, compiled_for))
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let mut args = PJRT_LoadedExecutable_Destroy_Args {
            struct_size: PJRT_LoadedExecutable_Destroy_Args_STRUCT_SIZE as usize,
            executable: self.raw,
            ..Default::default()
        };
        let api = &self.client.api;
        let function = api.table.PJRT_LoadedExecutable_Destroy;
        // A failure to free leaves nobody to tell and nothing to do.
        let _ = api.call("PJRT_LoadedExecutable_Destroy", function, &mut args);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut args = PJRT_Client_Destroy_Args {
            struct_size: PJRT_Client_Destroy_Args_STRUCT_SIZE as usize,
            client: self.raw,
            ..Default::default()
        };
        let function = self.api.table.PJRT_Client_Destroy;
        // A failure to free leaves nobody to tell and nothing to do.
        let _ = self.api.call("PJRT_Client_Destroy", function, &mut args);
    }
}
