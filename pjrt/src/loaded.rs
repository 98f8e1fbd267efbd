//! A program on its devices, ready to run.

use std::ptr;
use std::sync::Arc;

use crate::api::{Arguments, filled, given};
use crate::bindings::*;
use crate::buffer::Buffer;
use crate::client::Opened;
use crate::error::{PjrtError, Result};
use crate::executable::Executable;

/// A program on the devices of a client, ready to run.
pub struct LoadedExecutable {
    loaded: Arc<Loaded>,
    /// Devices of this process that it runs on.
    devices: usize,
    /// Arrays that it returns on each.
    outputs: usize,
}

/// What keeps a program on its devices.
struct Loaded {
    client: Arc<Opened>,
    raw: *mut PJRT_LoadedExecutable,
}

// SAFETY: the interface says that its functions may be called from any thread.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

impl LoadedExecutable {
    /// The executable at `raw`, which the function of `A` returned.
    pub(crate) fn new<A: Arguments>(
        client: &Arc<Opened>,
        raw: *mut PJRT_LoadedExecutable,
    ) -> Result<Self> {
        let raw = given::<A, _>(raw, "executable")?;
        let client = Arc::clone(client);
        let mut executable = Self {
            loaded: Arc::new(Loaded { client, raw }),
            devices: 0,
            outputs: 0,
        };
        executable.devices = executable.count_devices()?;
        executable.outputs = executable.executable()?.outputs()?;
        Ok(executable)
    }

    fn count_devices(&self) -> Result<usize> {
        let mut args = PJRT_LoadedExecutable_AddressableDevices_Args {
            executable: self.loaded.raw,
            ..Default::default()
        };
        self.loaded.client.api.call(&mut args)?;
        Ok(args.num_addressable_devices)
    }

    /// The compiled program, to ask about it or to serialise it.
    pub fn executable(&self) -> Result<Executable> {
        let mut args = PJRT_LoadedExecutable_GetExecutable_Args {
            loaded_executable: self.loaded.raw,
            ..Default::default()
        };
        let api = &self.loaded.client.api;
        api.call(&mut args)?;
        let loaded = Arc::clone(&self.loaded);
        let raw =
            given::<PJRT_LoadedExecutable_GetExecutable_Args, _>(args.executable, "executable")?;
        Ok(Executable::new(Arc::clone(api), raw, loaded))
    }

    /// Starts the program on each of its devices with that device's `arguments`, and returns each one's outputs,
    /// which may still be computed.
    ///
    /// Where the program says that an output lies where a parameter was, that argument is donated: it can no
    /// longer be read or used, and the plugin says so to whoever tries ([`Buffer::is_donated`]).
    ///
    /// # Errors
    /// Lists for another number of devices, or of different lengths; an array of another client; what the plugin
    /// says against the arguments. What goes wrong later shows when an output is read.
    pub fn run(&self, arguments: &[Vec<&Buffer>]) -> Result<Vec<Vec<Buffer>>> {
        let client = &self.loaded.client;
        if arguments.len() != self.devices {
            return Err(PjrtError::Devices {
                got: arguments.len(),
                expected: self.devices,
            });
        }
        let count = arguments.first().map_or(0, Vec::len);
        if arguments.iter().any(|list| list.len() != count) {
            return Err(PjrtError::Arguments(
                arguments.iter().map(Vec::len).collect(),
            ));
        }
        let mut buffers = arguments.iter().flatten();
        if !buffers.all(|buffer| Arc::ptr_eq(client, &buffer.client)) {
            return Err(PjrtError::OtherClient("argument"));
        }

        let raw = |buffer: &&Buffer| buffer.raw;
        let lists: Vec<Vec<_>> = arguments
            .iter()
            .map(|l| l.iter().map(raw).collect())
            .collect();
        let lists: Vec<_> = lists.iter().map(|list| list.as_ptr()).collect();
        let room = |_| filled::<PJRT_Executable_NumOutputs_Args, _>(ptr::null_mut(), self.outputs);
        let mut outputs = (0..self.devices).map(room).collect::<Result<Vec<_>>>()?;
        let output_lists: Vec<_> = outputs.iter_mut().map(|list| list.as_mut_ptr()).collect();
        let mut options = PJRT_ExecuteOptions {
            struct_size: PJRT_ExecuteOptions_STRUCT_SIZE as usize,
            ..Default::default()
        };
        let mut args = PJRT_LoadedExecutable_Execute_Args {
            executable: self.loaded.raw,
            options: &mut options,
            argument_lists: lists.as_ptr(),
            num_devices: self.devices,
            num_args: count,
            output_lists: output_lists.as_ptr(),
            ..Default::default()
        };
        client.api.call(&mut args)?;
        // All of them, so that those that are there are freed even if one is missing.
        let buffer = |raw| Buffer::new::<PJRT_LoadedExecutable_Execute_Args>(client, raw);
        let outputs = outputs
            .into_iter()
            .flatten()
            .map(buffer)
            .collect::<Vec<_>>();
        let mut outputs = outputs.into_iter();
        (0..self.devices)
            .map(|_| outputs.by_ref().take(self.outputs).collect())
            .collect()
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.client.api.free(PJRT_LoadedExecutable_Destroy_Args {
            executable: self.raw,
            ..Default::default()
        });
    }
}
