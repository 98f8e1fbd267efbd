//! A client's devices, and what a plugin says about them.

use std::sync::Arc;

use crate::api::{Api, given, text};
use crate::bindings::*;
use crate::client::Opened;
use crate::error::{PjrtError, Result};
use crate::value::{self, Value};

/// A device of a client. Of several processes together, each client lists all devices and can use its own.
#[derive(Clone)]
pub struct Device {
    pub(crate) client: Arc<Opened>,
    pub(crate) raw: *mut PJRT_Device,
}

// SAFETY: the interface says that its functions may be called from any thread.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// What is in use of a device's memory, in bytes; `None` where the plugin does not count it.
#[derive(Clone, Copy, Debug)]
pub struct DeviceMemory {
    pub in_use: i64,
    pub peak: Option<i64>,
    pub limit: Option<i64>,
}

impl Device {
    /// The number by which programs are assigned to devices; no other device of the client has it.
    pub fn id(&self) -> Result<i32> {
        self.description()?.id()
    }

    /// The kind of the device, in the plugin's words, for example `TPU v5 lite`.
    pub fn kind(&self) -> Result<String> {
        self.description()?.kind()
    }

    /// Its name for people, for example `CpuDevice(id=0)`.
    pub fn name(&self) -> Result<String> {
        self.description()?.name()
    }

    /// The number of the process that can use the device.
    pub fn process(&self) -> Result<i32> {
        self.description()?.process()
    }

    /// What else the plugin says about the device, for example its coordinates; empty where it says nothing.
    pub fn attributes(&self) -> Result<Vec<(String, Value)>> {
        self.description()?.attributes()
    }

    /// The use of its memory; none where the plugin does not count it.
    pub fn memory(&self) -> Result<Option<DeviceMemory>> {
        let mut args = PJRT_Device_MemoryStats_Args {
            device: self.raw,
            ..Default::default()
        };
        match self.client.api.call(&mut args) {
            Err(PjrtError::Unimplemented { .. } | PjrtError::MissingFunction(_)) => {
                return Ok(None);
            }
            called => called?,
        }
        Ok(Some(DeviceMemory {
            in_use: args.bytes_in_use,
            peak: args
                .peak_bytes_in_use_is_set
                .then_some(args.peak_bytes_in_use),
            limit: args.bytes_limit_is_set.then_some(args.bytes_limit),
        }))
    }

    fn description(&self) -> Result<Description<'_>> {
        let mut args = PJRT_Device_GetDescription_Args {
            device: self.raw,
            ..Default::default()
        };
        let api = &self.client.api;
        api.call(&mut args)?;
        let raw =
            given::<PJRT_Device_GetDescription_Args, _>(args.device_description, "description")?;
        // SAFETY: the description lives as long as the device's client.
        Ok(unsafe { Description::new(api, raw) })
    }
}

/// What a plugin says about a device, which need not be there.
pub(crate) struct Description<'a> {
    api: &'a Api,
    raw: *mut PJRT_DeviceDescription,
}

impl<'a> Description<'a> {
    /// # Safety
    /// `raw` is a description of the plugin of `api`, and lives as long as the result.
    pub(crate) unsafe fn new(api: &'a Api, raw: *mut PJRT_DeviceDescription) -> Self {
        Self { api, raw }
    }

    pub(crate) fn kind(&self) -> Result<String> {
        let mut args = PJRT_DeviceDescription_Kind_Args {
            device_description: self.raw,
            ..Default::default()
        };
        self.api.call(&mut args)?;
        // SAFETY: the plugin returned this text; it lives as long as the description.
        Ok(unsafe { text(args.device_kind, args.device_kind_size) })
    }

    fn id(&self) -> Result<i32> {
        let mut args = PJRT_DeviceDescription_Id_Args {
            device_description: self.raw,
            ..Default::default()
        };
        self.api.call(&mut args)?;
        Ok(args.id)
    }

    fn name(&self) -> Result<String> {
        let mut args = PJRT_DeviceDescription_ToString_Args {
            device_description: self.raw,
            ..Default::default()
        };
        self.api.call(&mut args)?;
        // SAFETY: the plugin returned this text; it lives as long as the description.
        Ok(unsafe { text(args.to_string, args.to_string_size) })
    }

    fn process(&self) -> Result<i32> {
        let mut args = PJRT_DeviceDescription_ProcessIndex_Args {
            device_description: self.raw,
            ..Default::default()
        };
        self.api.call(&mut args)?;
        Ok(args.process_index)
    }

    fn attributes(&self) -> Result<Vec<(String, Value)>> {
        let mut args = PJRT_DeviceDescription_Attributes_Args {
            device_description: self.raw,
            ..Default::default()
        };
        match self.api.call(&mut args) {
            Err(PjrtError::Unimplemented { .. } | PjrtError::MissingFunction(_)) => {
                return Ok(Vec::new());
            }
            called => called?,
        }
        // SAFETY: the plugin returned this array; it lives as long as the description.
        Ok(unsafe { value::read(args.attributes, args.num_attributes) })
    }
}
