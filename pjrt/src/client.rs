//! The devices of this machine.

use std::sync::Arc;

use crate::api::Api;
use crate::bindings::*;
use crate::error::Result;
use crate::executable::{Executable, hlo_program};

/// The devices of this machine that a plugin drives.
pub struct Client {
    api: Arc<Api>,
    raw: *mut PJRT_Client,
}

/// A program on a client's devices.
pub(crate) struct Loaded {
    raw: *mut PJRT_LoadedExecutable,
    client: Client,
}

impl Client {
    pub(crate) fn new(api: &Arc<Api>, raw: *mut PJRT_Client) -> Self {
        let api = Arc::clone(api);
        Self { api, raw }
    }

    /// Compiles for the client's devices; see [`crate::Topology::compile`].
    pub fn compile(self, hlo: &mut [u8], options: &[u8]) -> Result<Executable> {
        let program = hlo_program(hlo);
        let mut args = PJRT_Client_Compile_Args {
            client: self.raw,
            program: &program,
            compile_options: options.as_ptr().cast(),
            compile_options_size: options.len(),
            ..Default::default()
        };
        self.api.call(&mut args)?;
        let loaded = Loaded {
            raw: args.executable,
            client: self,
        };

        let mut args = PJRT_LoadedExecutable_GetExecutable_Args {
            loaded_executable: loaded.raw,
            ..Default::default()
        };
        let api = Arc::clone(&loaded.client.api);
        api.call(&mut args)?;
        Ok(Executable::new(api, args.executable, loaded))
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let mut args = PJRT_LoadedExecutable_Destroy_Args {
            executable: self.raw,
            ..Default::default()
        };
        let api = &self.client.api;
        // A failure to free leaves nobody to tell and nothing to do.
        let _ = api.call(&mut args);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut args = PJRT_Client_Destroy_Args {
            client: self.raw,
            ..Default::default()
        };
        // A failure to free leaves nobody to tell and nothing to do.
        let _ = self.api.call(&mut args);
    }
}
