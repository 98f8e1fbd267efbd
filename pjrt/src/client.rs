//! The devices of this machine, as one plugin drives them.

use std::sync::Arc;

use crate::api::{Api, Arguments, given, slice_of, text};
use crate::bindings::*;
use crate::buffer::{Buffer, len_of};
use crate::device::Device;
use crate::element::Element;
use crate::error::{PjrtError, Result};
use crate::event::Event;
use crate::key_value::Held;
use crate::loaded::LoadedExecutable;
use crate::program::Program;

/// The opened devices of a plugin. They stay open while anything of the client's is alive.
#[derive(Clone)]
pub struct Client {
    opened: Arc<Opened>,
}

/// What a client and everything of it share.
pub(crate) struct Opened {
    pub(crate) api: Arc<Api>,
    raw: *mut PJRT_Client,
    /// What the plugin may ask until the client is destroyed.
    _store: Option<Arc<Held>>,
}

// SAFETY: the interface says that its functions may be called from any thread.
unsafe impl Send for Opened {}
// SAFETY: as above.
unsafe impl Sync for Opened {}

impl Client {
    pub(crate) fn new(api: &Arc<Api>, raw: *mut PJRT_Client, store: Option<Arc<Held>>) -> Self {
        let api = Arc::clone(api);
        let opened = Opened {
            api,
            raw,
            _store: store,
        };
        Self {
            opened: Arc::new(opened),
        }
    }

    /// The platform, for example `cpu`, `cuda` or `tpu`.
    pub fn platform_name(&self) -> Result<String> {
        let mut args = PJRT_Client_PlatformName_Args {
            client: self.opened.raw,
            ..Default::default()
        };
        self.opened.api.call(&mut args)?;
        // SAFETY: the plugin returned this text; it lives as long as the client.
        Ok(unsafe { text(args.platform_name, args.platform_name_size) })
    }

    /// What the plugin says about its version; none where it says nothing.
    pub fn platform_version(&self) -> Result<Option<String>> {
        let mut args = PJRT_Client_PlatformVersion_Args {
            client: self.opened.raw,
            ..Default::default()
        };
        match self.opened.api.call(&mut args) {
            Err(PjrtError::Unimplemented { .. } | PjrtError::MissingFunction(_)) => {
                return Ok(None);
            }
            called => called?,
        }
        // SAFETY: the plugin returned this text; it lives as long as the client.
        let version = unsafe { text(args.platform_version, args.platform_version_size) };
        Ok((!version.is_empty()).then_some(version))
    }

    /// All devices, of all processes.
    pub fn devices(&self) -> Result<Vec<Device>> {
        let mut args = PJRT_Client_Devices_Args {
            client: self.opened.raw,
            ..Default::default()
        };
        self.opened.api.call(&mut args)?;
        // SAFETY: the plugin returned this array; it lives as long as the client.
        let devices = unsafe { slice_of(args.devices, args.num_devices) };
        let device = |&raw| self.device::<PJRT_Client_Devices_Args>(raw);
        devices.iter().map(device).collect()
    }

    /// The devices that this process can use.
    pub fn addressable_devices(&self) -> Result<Vec<Device>> {
        let mut args = PJRT_Client_AddressableDevices_Args {
            client: self.opened.raw,
            ..Default::default()
        };
        self.opened.api.call(&mut args)?;
        // SAFETY: the plugin returned this array; it lives as long as the client.
        let devices = unsafe { slice_of(args.addressable_devices, args.num_addressable_devices) };
        let device = |&raw| self.device::<PJRT_Client_AddressableDevices_Args>(raw);
        devices.iter().map(device).collect()
    }

    fn device<A: Arguments>(&self, raw: *mut PJRT_Device) -> Result<Device> {
        Ok(Device {
            raw: given::<A, _>(raw, "device")?,
            client: Arc::clone(&self.opened),
        })
    }

    /// Compiles for the client's devices; see [`crate::Topology::compile`].
    pub fn compile(&self, program: Program, options: &[u8]) -> Result<LoadedExecutable> {
        let program = program.as_argument();
        let mut args = PJRT_Client_Compile_Args {
            client: self.opened.raw,
            program: &program,
            compile_options: options.as_ptr().cast(),
            compile_options_size: options.len(),
            ..Default::default()
        };
        self.opened.api.call(&mut args)?;
        LoadedExecutable::new::<PJRT_Client_Compile_Args>(&self.opened, args.executable)
    }

    /// Loads what [`crate::Executable::serialize`] gave, on a plugin of the same version with as many devices.
    /// `options` as for [`Self::compile`] say which devices; `None`: those that it was compiled for.
    ///
    /// Plugins believe what they load: bytes from a stranger are code from a stranger.
    pub fn load(&self, serialized: &[u8], options: Option<&[u8]>) -> Result<LoadedExecutable> {
        let mut args = PJRT_Executable_DeserializeAndLoad_Args {
            client: self.opened.raw,
            serialized_executable: serialized.as_ptr().cast(),
            serialized_executable_size: serialized.len(),
            ..Default::default()
        };
        if let Some(options) = options {
            args.overridden_serialized_compile_options = options.as_ptr().cast();
            args.overridden_serialized_compile_options_size = options.len();
        }
        self.opened.api.call(&mut args)?;
        LoadedExecutable::new::<PJRT_Executable_DeserializeAndLoad_Args>(
            &self.opened,
            args.loaded_executable,
        )
    }

    /// Copies `values`, row-major, to `device` as an array of dimensions `dims`. They may be reused when this
    /// returns; the plugin may still be busy with its own copy of them.
    ///
    /// # Errors
    /// Another number of values than `dims` say; a device of another client.
    pub fn upload<T: Element>(
        &self,
        values: &[T],
        dims: &[usize],
        device: &Device,
    ) -> Result<Buffer> {
        let semantics = PJRT_HostBufferSemantics_kImmutableOnlyDuringCall;
        let (buffer, _) = self.begin_upload(values, dims, device, semantics)?;
        self.uploaded(buffer)
    }

    /// As [`Self::upload`], but the plugin reads `values` where they are, after this has returned; they are kept
    /// until it is done with them.
    pub fn upload_shared<T: Element>(
        &self,
        values: Arc<Vec<T>>,
        dims: &[usize],
        device: &Device,
    ) -> Result<Buffer> {
        let semantics = PJRT_HostBufferSemantics_kImmutableUntilTransferCompletes;
        // Without it the plugin could not be asked to keep them.
        self.opened.api.require::<PJRT_Event_OnReady_Args>()?;
        let (buffer, read) = self.begin_upload(&values, dims, device, semantics)?;
        read.keep(values);
        self.uploaded(buffer)
    }

    fn uploaded(&self, buffer: *mut PJRT_Buffer) -> Result<Buffer> {
        Buffer::new::<PJRT_Client_BufferFromHostBuffer_Args>(&self.opened, buffer)
    }

    /// The array, and when the plugin has read `values`.
    fn begin_upload<T: Element>(
        &self,
        values: &[T],
        dims: &[usize],
        device: &Device,
        semantics: PJRT_HostBufferSemantics,
    ) -> Result<(*mut PJRT_Buffer, Event)> {
        if len_of(dims) != Some(values.len()) {
            return Err(PjrtError::Count {
                got: values.len(),
                dims: dims.to_vec(),
            });
        }
        if !Arc::ptr_eq(&self.opened, &device.client) {
            return Err(PjrtError::OtherClient("device"));
        }
        let dims: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
        let mut args = PJRT_Client_BufferFromHostBuffer_Args {
            client: self.opened.raw,
            data: values.as_ptr().cast(),
            type_: T::TYPE.0,
            dims: dims.as_ptr(),
            num_dims: dims.len(),
            host_buffer_semantics: semantics,
            device: device.raw,
            ..Default::default()
        };
        let api = &self.opened.api;
        api.call(&mut args)?;
        let read = Event::new(api, args.done_with_host_buffer);
        Ok((args.buffer, read))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.api.free(PJRT_Client_Destroy_Args {
            client: self.raw,
            ..Default::default()
        });
    }
}
