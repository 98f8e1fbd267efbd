//! The compiler's estimates for a computation, as a table and as JSON.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;

use crate::compile::hlo::{Cost, Schedule};
use crate::compile::target::{Limits, Target};
use crate::compile::{Compiled, Step};
use crate::system::text;
use pjrt::Memory;

/// How many of the costliest instructions the table has.
const COSTLIEST: usize = 10;
const MB: f64 = 1e6;

/// Everything is per chip unless stated otherwise.
#[derive(Debug, Serialize)]
pub struct Analysis {
    pub target: String,
    pub chips: usize,
    pub compiler: String,
    pub step: Step,
    pub model: String,
    pub depth: usize,
    pub batch_per_chip: usize,
    pub precision: String,
    /// How equal units are traced: "unrolled" or "loop".
    pub units: String,
    /// Whether batch statistics cover all chips.
    pub sync_batch_norm: bool,
    pub trace_s: f64,
    pub compile_s: f64,
    pub memory: MemoryUse,
    pub flops: Option<f64>,
    pub bytes_accessed: Option<f64>,
    /// `None` if the compiler makes no estimate, as for a CPU.
    pub estimate: Option<Estimate>,
    pub all_reduces: u64,
    pub all_reduce_bytes: u64,
    pub costliest: Vec<Cost>,
}

/// In bytes.
#[derive(Debug, Serialize)]
pub struct MemoryUse {
    pub arguments: i64,
    pub outputs: i64,
    /// Outputs that take the place of arguments.
    pub aliased: i64,
    pub temporaries: i64,
    pub code: i64,
    /// Arguments, outputs, temporaries and code; aliased memory counts once.
    pub total: i64,
    /// Memory of a chip; unknown for a CPU.
    pub available: Option<f64>,
    pub fits: Option<bool>,
}

/// The compiler's cycle estimates, added up, and what follows from them.
#[derive(Debug, Serialize)]
pub struct Estimate {
    pub cycles: u64,
    /// Loops whose length the compiler does not state; each counts as one round.
    pub loops_of_unknown_length: usize,
    pub step_ms: f64,
    pub images_per_sec_per_chip: f64,
    /// All chips together.
    pub images_per_sec: f64,
    /// The time that the FLOPs and bytes above take at the chip's peak compute and bandwidth, whichever
    /// is longer.
    pub roofline_ms: Option<f64>,
    /// That time as a share of the estimate. It is above 1 if the bytes include some that stay in the chip's
    /// own memory, or if the compiler's estimate is too low.
    pub roofline_share: Option<f64>,
    /// `compute` or `memory`: which of the two is longer.
    pub roofline_limit: Option<&'static str>,
}

impl Analysis {
    /// Asks the executable for its numbers.
    pub fn of(
        target: &Target,
        step: Step,
        compiled: &Compiled,
        schedule: &Schedule,
    ) -> Result<Self> {
        let limits = target.limits();
        let model = &compiled.model;
        let flops = compiled.executable.cost("flops")?;
        let bytes_accessed = compiled.executable.cost("bytes accessed")?;
        let roofline = limits.zip(flops).zip(bytes_accessed);
        let roofline = roofline.map(|((limits, flops), bytes)| roofline_of(limits, flops, bytes));
        let (major, minor) = compiled.api_version;
        Ok(Self {
            target: target.to_string(),
            chips: target.chips(),
            compiler: format!("{}, PJRT C API {major}.{minor}", compiled.plugin.display()),
            step,
            model: compiled.network.to_string(),
            depth: model.network.depth,
            batch_per_chip: model.batch,
            precision: model.network.precision.to_string(),
            units: model.network.units_as.to_string(),
            sync_batch_norm: model.sync_batch_norm,
            trace_s: compiled.traced.as_secs_f64(),
            compile_s: compiled.compiled.as_secs_f64(),
            memory: MemoryUse::of(compiled.executable.memory()?, limits),
            flops,
            bytes_accessed,
            estimate: limits.filter(|_| schedule.cycles > 0).map(|limits| {
                Estimate::of(schedule, limits, model.batch, target.chips(), roofline)
            }),
            all_reduces: schedule.all_reduces,
            all_reduce_bytes: schedule.all_reduce_bytes,
            costliest: schedule.costs.iter().take(COSTLIEST).cloned().collect(),
        })
    }

    /// The analysis as text.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "{:?} step of {}, {} on {} ({} {})",
            self.step,
            self.model,
            self.precision,
            self.target,
            self.chips,
            if self.chips == 1 { "chip" } else { "chips" },
        )?;
        let statistics = if self.sync_batch_norm {
            "all chips"
        } else {
            "each chip"
        };
        writeln!(
            out,
            "batch           {} images a chip, {} in all; batch statistics over {statistics}",
            self.batch_per_chip,
            self.batch_per_chip * self.chips
        )?;
        writeln!(out, "compiler        {}", text::one_line(&self.compiler))?;
        writeln!(
            out,
            "time            traced in {:.1} s, compiled in {:.1} s (units: {})",
            self.trace_s, self.compile_s, self.units
        )?;
        self.memory.write(out)?;
        if let (Some(flops), Some(bytes)) = (self.flops, self.bytes_accessed) {
            writeln!(
                out,
                "work            {:.1} GFLOP, {:.1} GB moved to and from memory, a chip",
                flops / 1e9,
                bytes / 1e9
            )?;
        }
        writeln!(
            out,
            "collectives     {} all-reduces, {:.1} MB in all (not in the estimate)",
            self.all_reduces,
            self.all_reduce_bytes as f64 / MB
        )?;
        match &self.estimate {
            Some(estimate) => estimate.write(out)?,
            None => writeln!(out, "estimate        none: this compiler makes none")?,
        }
        self.write_costliest(out)
    }

    fn write_costliest(&self, out: &mut String) -> std::fmt::Result {
        let Some(estimate) = &self.estimate else {
            return Ok(());
        };
        writeln!(out, "\n    cycles   share  runs  instruction")?;
        for cost in &self.costliest {
            writeln!(
                out,
                "{:>10}  {:>5.1}%  {:>4}  {}: {}\n{:27}{}",
                cost.cycles,
                100.0 * cost.cycles as f64 / estimate.cycles as f64,
                cost.runs,
                cost.name,
                cost.result,
                "",
                cost.does,
            )?;
        }
        Ok(())
    }
}

impl MemoryUse {
    fn of(memory: Memory, limits: Option<Limits>) -> Self {
        let total =
            memory.arguments + memory.outputs - memory.aliased + memory.temporaries + memory.code;
        let available = limits.map(|limits| limits.memory);
        Self {
            arguments: memory.arguments,
            outputs: memory.outputs,
            aliased: memory.aliased,
            temporaries: memory.temporaries,
            code: memory.code,
            total,
            available,
            fits: available.map(|available| total as f64 <= available),
        }
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let mb = |bytes: i64| bytes as f64 / MB;
        write!(out, "memory          {:.0} MB a chip", mb(self.total))?;
        match (self.available, self.fits) {
            (Some(available), Some(true)) => {
                writeln!(out, ": fits in its {:.0} MB", available / MB)?;
            }
            (Some(available), _) => {
                writeln!(out, ": DOES NOT FIT in its {:.0} MB", available / MB)?;
            }
            (None, _) => writeln!(out)?,
        }
        writeln!(
            out,
            "                arguments {:.1} MB, outputs {:.1} MB ({:.1} MB of them in place of arguments),\n\
             {:16}temporaries {:.1} MB, code {:.1} MB",
            mb(self.arguments),
            mb(self.outputs),
            mb(self.aliased),
            "",
            mb(self.temporaries),
            mb(self.code)
        )
    }
}

impl Estimate {
    fn of(
        schedule: &Schedule,
        limits: Limits,
        batch: usize,
        chips: usize,
        roofline: Option<(f64, &'static str)>,
    ) -> Self {
        let seconds = schedule.cycles as f64 / limits.clock;
        let per_chip = batch as f64 / seconds;
        Self {
            cycles: schedule.cycles,
            loops_of_unknown_length: schedule.loops_of_unknown_length,
            step_ms: seconds * 1e3,
            images_per_sec_per_chip: per_chip,
            images_per_sec: per_chip * chips as f64,
            roofline_ms: roofline.map(|(peak, _)| peak * 1e3),
            roofline_share: roofline.map(|(peak, _)| peak / seconds),
            roofline_limit: roofline.map(|(_, limit)| limit),
        }
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "estimate        {} cycles: {:.2} ms a step, {:.0} images/s a chip, {:.0} images/s in all",
            self.cycles, self.step_ms, self.images_per_sec_per_chip, self.images_per_sec
        )?;
        if let (Some(ms), Some(share), Some(limit)) =
            (self.roofline_ms, self.roofline_share, self.roofline_limit)
        {
            writeln!(
                out,
                "roofline        {ms:.2} ms, set by {limit}: {:.0} % of the estimate",
                100.0 * share
            )?;
            if share > 1.0 {
                writeln!(
                    out,
                    "                (some of these bytes stay in the chip, or the estimate is too low)"
                )?;
            }
        }
        if self.loops_of_unknown_length > 0 {
            writeln!(
                out,
                "                too low: {} loops of unknown length count as one round each",
                self.loops_of_unknown_length
            )?;
        }
        Ok(())
    }
}

/// The time, in seconds, that this work takes at a chip's peaks, and which of them sets it.
fn roofline_of(limits: Limits, flops: f64, bytes: f64) -> (f64, &'static str) {
    let compute = flops / limits.flops;
    let memory = bytes / limits.bandwidth;
    if compute > memory {
        (compute, "compute")
    } else {
        (memory, "memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::target::Generation;

    const V5E: Limits = Limits {
        flops: 197e12,
        bandwidth: 819e9,
        memory: 17.18e9,
        clock: 1.5e9,
    };

    #[test]
    fn cycles_become_time_and_throughput() {
        let schedule = Schedule {
            cycles: 15_000_000,
            ..Schedule::default()
        };
        let estimate = Estimate::of(&schedule, V5E, 128, 8, Some((0.001, "memory")));
        assert!((estimate.step_ms - 10.0).abs() < 1e-9);
        assert!((estimate.images_per_sec_per_chip - 12_800.0).abs() < 1e-6);
        assert!((estimate.images_per_sec - 102_400.0).abs() < 1e-6);
        assert_eq!(estimate.roofline_share, Some(0.1));
    }

    #[test]
    fn the_slower_of_compute_and_memory_sets_the_roofline() {
        assert_eq!(roofline_of(V5E, 197e12, 1.0), (1.0, "compute"));
        assert_eq!(roofline_of(V5E, 1.0, 819e9), (1.0, "memory"));
    }

    #[test]
    fn aliased_outputs_count_once_and_memory_is_compared_with_the_chips() {
        let memory = Memory {
            arguments: 10,
            outputs: 7,
            aliased: 5,
            temporaries: 3,
            code: 1,
        };
        let limits = Generation::V5e.limits();
        let report = MemoryUse::of(memory, Some(limits));
        assert_eq!((report.total, report.fits), (16, Some(true)));
        let large = Memory {
            temporaries: 1 << 34,
            ..memory
        };
        let report = MemoryUse::of(large, Some(limits));
        assert_eq!(report.fits, Some(false));
        assert_eq!(MemoryUse::of(large, None).fits, None);
    }
}
