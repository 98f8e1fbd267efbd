//! Arrays on a device.

use std::mem;
use std::sync::Arc;

use crate::api::{Arguments, filled, given, slice_of};
use crate::bindings::*;
use crate::client::Opened;
use crate::element::{Element, ElementType};
use crate::error::{PjrtError, Result};
use crate::event::Event;

/// An array on a device, possibly one that is still being copied or computed. What goes wrong with it
/// meanwhile shows when it is read or waited for.
pub struct Buffer {
    pub(crate) client: Arc<Opened>,
    pub(crate) raw: *mut PJRT_Buffer,
}

// SAFETY: the interface says that its functions may be called from any thread.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// The array at `raw`, which the function of `A` returned.
    pub(crate) fn new<A: Arguments>(client: &Arc<Opened>, raw: *mut PJRT_Buffer) -> Result<Self> {
        Ok(Self {
            raw: given::<A, _>(raw, "array")?,
            client: Arc::clone(client),
        })
    }

    /// The type of its elements.
    pub fn element_type(&self) -> Result<ElementType> {
        let mut args = PJRT_Buffer_ElementType_Args {
            buffer: self.raw,
            ..Default::default()
        };
        self.client.api.call(&mut args)?;
        Ok(ElementType(args.type_))
    }

    /// Its dimensions, the outermost first.
    pub fn dims(&self) -> Result<Vec<usize>> {
        let mut args = PJRT_Buffer_Dimensions_Args {
            buffer: self.raw,
            ..Default::default()
        };
        self.client.api.call(&mut args)?;
        // SAFETY: the plugin returned this array; it lives as long as the buffer.
        let dims = unsafe { slice_of(args.dims, args.num_dims) };
        let sizes: Option<Vec<usize>> = dims.iter().map(|&dim| dim.try_into().ok()).collect();
        sizes.ok_or_else(|| PjrtError::Dimensions(dims.to_vec()))
    }

    /// Bytes that it takes on the device.
    pub fn size_on_device(&self) -> Result<usize> {
        let mut args = PJRT_Buffer_OnDeviceSizeInBytes_Args {
            buffer: self.raw,
            ..Default::default()
        };
        self.client.api.call(&mut args)?;
        Ok(args.on_device_size_in_bytes)
    }

    /// Whether a program has taken its memory for an output ([`crate::LoadedExecutable::run`]).
    pub fn is_donated(&self) -> Result<bool> {
        let mut args = PJRT_Buffer_IsDeleted_Args {
            buffer: self.raw,
            ..Default::default()
        };
        self.client.api.call(&mut args)?;
        Ok(args.is_deleted)
    }

    /// The copy or the run that fills it.
    pub fn ready(&self) -> Result<Event> {
        let mut args = PJRT_Buffer_ReadyEvent_Args {
            buffer: self.raw,
            ..Default::default()
        };
        self.client.api.call(&mut args)?;
        Ok(Event::new(&self.client.api, args.event))
    }

    /// Waits until it is filled and copies it to the host, row-major.
    ///
    /// # Errors
    /// Elements of another type than `T`, or more than there is memory for; whatever went wrong on the way to these
    /// values.
    pub fn download<T: Element>(&self) -> Result<Vec<T>> {
        let got = self.element_type()?;
        if got != T::TYPE {
            return Err(PjrtError::ElementType {
                got: got.to_string(),
                expected: T::TYPE.to_string(),
            });
        }
        let api = &self.client.api;
        // Once begun, the copy must be waited for: it writes to memory that is ours.
        api.require::<PJRT_Event_Await_Args>()?;
        let dims = self.dims()?;
        let len = len_of(&dims).ok_or(PjrtError::TooLarge {
            function: PJRT_Buffer_Dimensions_Args::NAME,
        })?;
        let mut values = filled::<PJRT_Buffer_Dimensions_Args, _>(T::default(), len)?;

        let row_major: Vec<i64> = (0..dims.len() as i64).rev().collect();
        let mut layout = row_major_layout(&row_major);
        let mut args = PJRT_Buffer_ToHostBuffer_Args {
            src: self.raw,
            host_layout: &mut layout,
            dst: values.as_mut_ptr().cast(),
            dst_size: size_of_val(&values[..]),
            ..Default::default()
        };
        api.call(&mut args)?;
        let copied = Event::new(api, args.event);
        if let Err(error) = copied.wait() {
            // Unless it has ended, the plugin may still write to them.
            if !matches!(copied.is_ready(), Ok(true)) {
                mem::forget(values);
            }
            return Err(error);
        }
        Ok(values)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.client.api.free(PJRT_Buffer_Destroy_Args {
            buffer: self.raw,
            ..Default::default()
        });
    }
}

/// The number of elements of an array, unless there are too many to count.
pub(crate) fn len_of(dims: &[usize]) -> Option<usize> {
    dims.iter()
        .try_fold(1usize, |len, &dim| len.checked_mul(dim))
}

/// A layout without tiles; good as long as `minor_to_major` is.
fn row_major_layout(minor_to_major: &[i64]) -> PJRT_Buffer_MemoryLayout {
    let mut layout = PJRT_Buffer_MemoryLayout {
        struct_size: PJRT_Buffer_MemoryLayout_STRUCT_SIZE as usize,
        type_: PJRT_Buffer_MemoryLayout_Type_Tiled,
        ..Default::default()
    };
    layout.__bindgen_anon_1.tiled = PJRT_Buffer_MemoryLayout_Tiled {
        struct_size: PJRT_Buffer_MemoryLayout_Tiled_STRUCT_SIZE as usize,
        minor_to_major: minor_to_major.as_ptr(),
        minor_to_major_size: minor_to_major.len(),
        ..Default::default()
    };
    layout
}
