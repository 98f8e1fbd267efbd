//! What a plugin does meanwhile, and when it is done.

use std::ffi::c_void;
use std::mem;
use std::sync::Arc;

use crate::api::Api;
use crate::bindings::*;
use crate::error::Result;

/// Something that a plugin does meanwhile: a copy, or a run.
pub struct Event {
    api: Arc<Api>,
    /// Null where the plugin gave no event, because there is nothing to wait for.
    raw: *mut PJRT_Event,
}

// SAFETY: the interface says that its functions may be called from any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    pub(crate) fn new(api: &Arc<Api>, raw: *mut PJRT_Event) -> Self {
        let api = Arc::clone(api);
        Self { api, raw }
    }

    /// Whether it is done, well or not.
    pub fn is_ready(&self) -> Result<bool> {
        if self.raw.is_null() {
            return Ok(true);
        }
        let mut args = PJRT_Event_IsReady_Args {
            event: self.raw,
            ..Default::default()
        };
        self.api.call(&mut args)?;
        Ok(args.is_ready)
    }

    /// Waits until it is done.
    ///
    /// # Errors
    /// What went wrong meanwhile.
    pub fn wait(&self) -> Result<()> {
        if self.raw.is_null() {
            return Ok(());
        }
        let mut args = PJRT_Event_Await_Args {
            event: self.raw,
            ..Default::default()
        };
        self.api.call(&mut args)
    }

    /// Keeps `kept` until it is done, well or not. Where the plugin cannot say when that is, for ever.
    pub(crate) fn keep<T: Send + 'static>(&self, kept: T) {
        if self.raw.is_null() {
            mem::forget(kept);
            return;
        }
        let kept = Box::into_raw(Box::new(Kept {
            api: Arc::clone(&self.api),
            _kept: kept,
        }));
        let mut args = PJRT_Event_OnReady_Args {
            event: self.raw,
            callback: Some(drop_kept::<T>),
            user_arg: kept.cast(),
            ..Default::default()
        };
        // The event itself tells of failures to whoever waits for it.
        let _ = self.api.call(&mut args);
    }
}

/// What an event keeps, with what is needed to free an error that comes with it.
struct Kept<T> {
    api: Arc<Api>,
    _kept: T,
}

/// Called by the plugin, once, on one of its threads.
unsafe extern "C" fn drop_kept<T>(error: *mut PJRT_Error, kept: *mut c_void) {
    // SAFETY: `Event::keep` made this pointer of such a box, and gave it to one call.
    let kept = unsafe { Box::from_raw(kept.cast::<Kept<T>>()) };
    if !error.is_null() {
        kept.api.free_error(error);
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            self.api.free(PJRT_Event_Destroy_Args {
                event: self.raw,
                ..Default::default()
            });
        }
    }
}
