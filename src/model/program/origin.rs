//! Where a computation that can run came from: the compiler, the cache or a file.

use std::time::Duration;

use serde::Serialize;

use crate::device::{Compiled, Origin};

/// Where a computation that can run came from, and how long that took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ExecutableOrigin {
    pub computation: &'static str,
    pub from: Origin,
    /// Seconds to trace it, or to read it where it was traced before.
    pub trace_s: f64,
    /// Seconds that it took to compile, now or at an earlier time.
    pub compile_s: f64,
    /// Seconds that it took to load what was compiled at an earlier time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_s: Option<f64>,
    /// Seconds by which loading was faster than compiling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved_s: Option<f64>,
}

impl ExecutableOrigin {
    /// Of `computation`, which took so long to trace and then so long until it was `compiled`.
    pub(super) fn new(
        computation: &'static str,
        compiled: &Compiled,
        traced: Duration,
        took: Duration,
    ) -> Self {
        let compile_s = compiled.compiling.as_secs_f64();
        let load_s = (compiled.origin != Origin::Compiler).then_some(took.as_secs_f64());
        Self {
            computation,
            from: compiled.origin,
            trace_s: traced.as_secs_f64(),
            compile_s,
            load_s,
            saved_s: load_s.map(|load_s| compile_s - load_s),
        }
    }

    pub(super) fn log(&self, source: &str) {
        let Self {
            computation,
            trace_s,
            compile_s,
            ..
        } = self;
        match self.loaded() {
            None => log::info!(
                "compiled {computation}: {source} in {trace_s:.1} s, compiled in {compile_s:.1} s"
            ),
            Some(loaded) => log::info!(
                "loaded {computation}: {source} in {trace_s:.1} s, loaded {loaded} (compiling took {compile_s:.1} s)"
            ),
        }
    }

    /// From where it was loaded, how long that took, and what it saved; `None` where it was compiled.
    pub fn loaded(&self) -> Option<String> {
        let from = match self.from {
            Origin::Compiler => return None,
            Origin::Cache => "the cache",
            Origin::File => "its file",
        };
        // Loading what compiles in no time may take longer.
        let saved = self.saved_s?.max(0.0);
        Some(format!(
            "from {from} in {:.1} s, {saved:.1} s saved",
            self.load_s?
        ))
    }
}
