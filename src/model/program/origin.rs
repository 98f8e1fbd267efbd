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
            from,
            trace_s,
            compile_s,
            ..
        } = self;
        let Some(load_s) = self.load_s else {
            log::info!(
                "compiled {computation}: {source} in {trace_s:.1} s, compiled in {compile_s:.1} s"
            );
            return;
        };
        let from = match from {
            Origin::File => "its file",
            Origin::Cache | Origin::Compiler => "the cache",
        };
        log::info!(
            "loaded {computation}: {source} in {trace_s:.1} s, loaded from {from} in {load_s:.1} s what took \
             {compile_s:.1} s to compile"
        );
    }
}
