//! Times each operation of the training step alone, in two formulations: as the CPU's fused kernels,
//! and composed of XLA's own operations.
//!
//! | file | job |
//! | --- | --- |
//! | `bound` | what the machine allows at best |
//! | `list` | the distinct operations of a network: shapes, counts, FLOPs, bytes |
//! | `table` | the report as text |
//! | `time` | compile, run, read the clock |
//! | `trace` | an operation as a computation of its own |

mod bound;
mod list;
mod table;
mod time;
mod trace;

use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;
use xla_graphs::ops::Lowering;

use self::bound::Bound;
use self::list::{Pass, operations};
use self::time::Operation;
use super::step::LEARNING_RATE;
use super::{Build, Spread, synthetic_batch};
use crate::data::Batch;
use crate::device::Device;
use crate::device::runtime;
use crate::model::program::{Program, State};
use crate::model::state::HostState;

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct OpsBench {
    /// Runs of each operation, and of the whole step, that are not timed; at least 1.
    pub warmup: usize,
    /// Runs that are timed; at least 1.
    pub runs: usize,
}

/// What was measured: the object that `bench --ops --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct OpsReport {
    #[serde(flatten)]
    pub build: Build,
    /// Version of the XLA runtime.
    pub runtime: &'static str,
    pub device: String,
    /// Processors that the process may run on.
    pub threads: usize,
    /// The instruction set that the kernels ran on.
    pub isa: String,
    /// Of activations and kernels, `f32` or `bf16`.
    pub precision: String,
    pub depth: usize,
    pub batch_size: usize,
    /// Runs of each operation that were timed.
    pub n: usize,
    /// What no operation can exceed.
    pub bound: Bound,
    pub operations: Vec<Operations>,
    /// The whole step, measured as one.
    pub step: Pair<Timing>,
    /// All operations' times, each as often as it runs in a step, in milliseconds.
    pub sum_ms: Pair<f64>,
}

/// Operations of one kind and shape.
#[derive(Clone, Debug, Serialize)]
pub struct Operations {
    pub operation: String,
    pub pass: Pass,
    pub shape: String,
    /// How many there are in a step.
    pub count: usize,
    /// Of one: three forward passes' operations, as `summary` counts them, over all rows.
    pub flops: usize,
    /// The fewest bytes that one must read and write.
    pub bytes: usize,
    /// The fewest milliseconds that one can take.
    pub bound_ms: f64,
    #[serde(flatten)]
    pub time: Pair<Timing>,
}

/// Something of each formulation.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pair<T> {
    pub kernels: T,
    pub dots: T,
}

/// Milliseconds of a run: median and quartiles.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Timing {
    pub ms: f64,
    pub ms_q1: f64,
    pub ms_q3: f64,
}

impl OpsBench {
    /// Times the operations of `programs`, the same network on `device` in both formulations, and
    /// their whole steps from `state` on.
    pub fn run(
        &self,
        device: &Device,
        programs: &Pair<Program>,
        state: &HostState,
    ) -> Result<OpsReport> {
        let step = self.time_steps(programs, state)?;
        let model = programs.kernels.model();
        let (network, batch) = (&model.network, model.batch);
        let threads = std::thread::available_parallelism()?.get();
        let bound = Bound::measure(threads, network.precision);
        let mut rows = Vec::new();
        for (op, count) in operations(network, model.image_side) {
            let time = |program: &Program, lowering| {
                let layout = program.layout();
                let traced = trace::trace(&op, lowering, network.precision, batch, layout)?;
                let operation = Operation::new(device, &traced)?;
                self.time(|run| operation.run(run))
                    .with_context(|| format!("timing {op}, {}", op.shape()))
            };
            let time = Pair {
                kernels: time(&programs.kernels, Lowering::Kernels)?,
                dots: time(&programs.dots, Lowering::Dots)?,
            };
            let (flops, bytes) = (op.flops(batch), op.bytes(batch, network.precision));
            rows.push(Operations {
                operation: op.to_string(),
                pass: op.pass,
                shape: op.shape(),
                count,
                flops,
                bytes,
                bound_ms: bound.ms(flops, bytes),
                time,
            });
        }
        Ok(OpsReport {
            build: Build::THIS,
            runtime: runtime::VERSION,
            device: device.description(),
            threads,
            isa: cpu_kernels::isa().to_string(),
            precision: network.precision.to_string(),
            depth: network.depth,
            batch_size: batch,
            n: self.runs,
            bound,
            sum_ms: Pair {
                kernels: rows.iter().map(|row| row.total_ms(|t| t.kernels)).sum(),
                dots: rows.iter().map(|row| row.total_ms(|t| t.dots)).sum(),
            },
            operations: rows,
            step,
        })
    }

    fn time(&self, run: impl FnMut(usize) -> Result<f64>) -> Result<Timing> {
        let seconds = (0..self.warmup + self.runs).map(run);
        let seconds = seconds.collect::<Result<Vec<_>>>()?;
        Ok(Timing::of(&seconds[self.warmup..]))
    }

    /// Whole steps of the two formulations take turns.
    fn time_steps(&self, programs: &Pair<Program>, state: &HostState) -> Result<Pair<Timing>> {
        let batch = synthetic_batch(programs.kernels.model());
        let mut kernels = Steps::new(&programs.kernels, state, &batch)?;
        let mut dots = Steps::new(&programs.dots, state, &batch)?;
        let mut others = Vec::new();
        let kernels = self.time(|_| {
            others.push(dots.next()?);
            kernels.next()
        })?;
        Ok(Pair {
            kernels,
            dots: Timing::of(&others[self.warmup..]),
        })
    }
}

/// Training steps, one after the other.
struct Steps<'a> {
    program: &'a Program<'a>,
    batch: &'a Batch,
    state: Option<State>,
}

impl<'a> Steps<'a> {
    fn new(program: &'a Program, state: &HostState, batch: &'a Batch) -> Result<Self> {
        Ok(Self {
            program,
            batch,
            state: Some(program.upload_state(state)?),
        })
    }

    /// Seconds of the next step.
    fn next(&mut self) -> Result<f64> {
        let state = self.state.take().context("a step before this one failed")?;
        let start = Instant::now();
        let inputs = self.program.upload_batch(self.batch, LEARNING_RATE)?;
        let (state, metrics) = self.program.train_step(state, &inputs)?;
        metrics.read()?;
        let seconds = start.elapsed().as_secs_f64();
        self.state = Some(state);
        Ok(seconds)
    }
}

impl Operations {
    /// Milliseconds of all of them in a step.
    fn total_ms(&self, which: impl Fn(&Pair<Timing>) -> Timing) -> f64 {
        which(&self.time).ms * self.count as f64
    }
}

impl Timing {
    fn of(seconds: &[f64]) -> Self {
        let spread = Spread::of(seconds);
        Self {
            ms: spread.median * 1e3,
            ms_q1: spread.q1 * 1e3,
            ms_q3: spread.q3 * 1e3,
        }
    }
}
