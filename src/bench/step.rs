//! Times the training step of one configuration.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use xla_graphs::Model;

use super::{Build, Spread};
use crate::data::{Batch, Mixed};
use crate::device::Device;
use crate::device::runtime;
use crate::model::network::Network;
use crate::model::program::{PendingMetrics, Program, State};
use crate::model::state::HostState;
use crate::system::proc::{page_faults, peak_resident_bytes};

/// Small enough that the loss stays finite at every depth when the same batch is repeated.
pub(super) const LEARNING_RATE: f64 = 0.01;

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct StepBench {
    /// What the program trains.
    pub network: Network,
    /// Steps that are run first and not timed; at least 1.
    pub warmup: usize,
    /// Steps that are timed; at least 1.
    pub steps: usize,
}

/// What was measured, and on what: the object that `bench --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    #[serde(flatten)]
    pub build: Build,
    /// Version of the XLA runtime.
    pub runtime: &'static str,
    pub device: String,
    /// Processors that the process may run on.
    pub threads: usize,
    pub model: String,
    pub depth: usize,
    pub optimizer: String,
    /// Images in a step, over all replicas.
    pub batch_size: usize,
    pub replicas: usize,
    pub precision: String,
    /// How equal units are traced: "unrolled" or "loop".
    pub units: String,
    /// How the units are written for the compiler.
    pub lowering: String,
    /// The instruction set that the CPU's kernels would run on, or "generic".
    pub isa: String,
    pub trainable_parameters: usize,
    pub warmup_steps: usize,
    /// Steps that were timed.
    pub n: usize,
    /// Median time from the end of one step to the end of the next, in milliseconds.
    pub step_ms: f64,
    pub step_ms_q1: f64,
    pub step_ms_q3: f64,
    /// Each of them, in order.
    pub times_ms: Vec<f64>,
    pub images_per_sec: f64,
    /// Median time of a step outside the executable's call and the wait for its results, in milliseconds:
    /// what the host itself takes. A device that works by itself does the step before meanwhile.
    pub host_ms: f64,
    /// Median time of the call that starts a step, in milliseconds: all of the step where the device does not work by
    /// itself.
    pub call_ms: f64,
    /// Seconds to trace and compile the training step.
    pub compile_s: f64,
    /// Peak resident memory of the process, in 10^6 bytes; absent if the system does not report it.
    pub peak_rss_mb: Option<f64>,
    /// Pages of memory that the system had to give the process in a timed step, on average; absent if it does not report
    /// them.
    pub page_faults: Option<f64>,
    /// Loss of the first and of the last step, L2 penalty included.
    pub first_loss: f64,
    pub last_loss: f64,
}

impl StepBench {
    /// Compiles and times the training step of `program`, which runs on `device`, from `state` on.
    pub fn run(&self, program: &Program, device: &Device, state: &HostState) -> Result<StepReport> {
        let compile = program.compile_train()?;
        let state = program.upload_state(state)?;
        let steps = run_steps(program, state, self.warmup, self.steps)?;
        let times_ms = steps.milliseconds().split_off(self.warmup - 1);
        let host_ms = steps.host_milliseconds().split_off(self.warmup - 1);
        let call_ms: Vec<f64> = steps.called[self.warmup..]
            .iter()
            .copied()
            .map(milliseconds)
            .collect();
        let step_ms = Spread::of(&times_ms);
        let model = program.model();
        Ok(StepReport {
            build: Build::THIS,
            runtime: runtime::VERSION,
            device: device.description(),
            threads: std::thread::available_parallelism()?.get(),
            model: self.network.to_string(),
            depth: model.network.depth,
            optimizer: format!("{:?}", model.optimiser),
            batch_size: model.global_batch(),
            replicas: device.replicas,
            precision: model.network.precision.to_string(),
            units: model.network.units_as.to_string(),
            lowering: model.network.stem.lowering.to_string(),
            isa: cpu_kernels::isa().to_string(),
            trainable_parameters: program.layout().trainable_parameters(),
            warmup_steps: self.warmup,
            n: self.steps,
            step_ms: step_ms.median,
            step_ms_q1: step_ms.q1,
            step_ms_q3: step_ms.q3,
            host_ms: Spread::of(&host_ms).median,
            call_ms: Spread::of(&call_ms).median,
            times_ms,
            images_per_sec: model.global_batch() as f64 / (step_ms.median / 1e3),
            compile_s: compile.as_secs_f64(),
            peak_rss_mb: peak_resident_bytes().map(|bytes| bytes as f64 / 1e6),
            page_faults: steps.page_faults,
            first_loss: steps.losses[0],
            last_loss: steps.losses[steps.losses.len() - 1],
        })
    }
}

/// Steps that were run one after the other.
struct Steps {
    /// When the metrics of each step were there.
    ended: Vec<Instant>,
    /// Between the end of the step before and that, in the executable's call or waiting for its results.
    executing: Vec<Duration>,
    /// In each step's call.
    called: Vec<Duration>,
    losses: Vec<f64>,
    /// In each timed step, on average.
    page_faults: Option<f64>,
}

impl Steps {
    fn with_capacity(steps: usize) -> Self {
        Self {
            ended: Vec::with_capacity(steps),
            executing: Vec::with_capacity(steps),
            called: Vec::with_capacity(steps),
            losses: Vec::with_capacity(steps),
            page_faults: None,
        }
    }

    /// Waits for the step of `metrics`; `called`: how long the call of the step behind it took.
    fn finish(&mut self, metrics: &PendingMetrics, called: Duration) -> Result<()> {
        let asked = Instant::now();
        self.losses.push(metrics.read()?.loss());
        let end = Instant::now();
        self.executing.push(called + (end - asked));
        self.ended.push(end);
        Ok(())
    }

    /// From the end of each step to the end of the next: two values fewer than steps. The last step
    /// does not count: where the device runs a step before the call returns, it has long ended when
    /// its metrics are read.
    fn durations(&self) -> impl Iterator<Item = Duration> {
        let pairs = self.ended[..self.ended.len() - 1].windows(2);
        pairs.map(|pair| pair[1] - pair[0])
    }

    fn milliseconds(&self) -> Vec<f64> {
        self.durations().map(milliseconds).collect()
    }

    /// The time of each step that was spent outside the executable.
    fn host_milliseconds(&self) -> Vec<f64> {
        let pairs = self.durations().zip(&self.executing[1..]);
        pairs
            .map(|(whole, executing)| milliseconds(whole.saturating_sub(*executing)))
            .collect()
    }
}

/// Runs `warmup` steps, `timed` steps and one more on one batch as training does: metrics are read one step late.
fn run_steps(program: &Program, mut state: State, warmup: usize, timed: usize) -> Result<Steps> {
    let count = warmup + timed + 1;
    let batch = synthetic_batch(program.model());
    let mut pending: Option<PendingMetrics> = None;
    let mut steps = Steps::with_capacity(count);
    let mut faults_before = None;
    for step in 0..count {
        if step == warmup {
            faults_before = page_faults();
        }
        let inputs = program.upload_batch(&batch, LEARNING_RATE)?;
        let begin = Instant::now();
        let metrics;
        (state, metrics) = program.train_step(state, &inputs)?;
        let called = begin.elapsed();
        steps.called.push(called);
        if let Some(before) = pending.replace(metrics) {
            steps.finish(&before, called)?;
        }
    }
    if let Some(last) = pending {
        steps.finish(&last, Duration::ZERO)?;
    }
    let faults = page_faults().zip(faults_before);
    steps.page_faults = faults.map(|(after, before)| (after - before) as f64 / (timed + 1) as f64);
    Ok(steps)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A batch for all replicas of `model`: images of noise, uniform in [-2, 2), with the labels 0, 1, ... in turn. The
/// scripts in `benches/peers/` make the same one.
pub fn synthetic_batch(model: &Model) -> Batch {
    let size = model.global_batch();
    let values = model.image_dims().iter().product::<usize>() * model.replicas.0;
    let classes = model.network.dense.outputs;
    let labels = (0..size).map(|image| (image % classes) as i32);
    Batch {
        images: (0..values).map(|position| noise(position as u32)).collect(),
        labels: labels.clone().collect(),
        // Read where labels are mixed; each image is all of the first.
        mixed: Mixed {
            labels: labels.collect(),
            shares: vec![1.0; size],
        },
        weights: vec![1.0; size],
        count: size,
        ..Batch::default()
    }
}

/// MurmurHash3's last mixing steps, scaled to [-2, 2).
fn noise(position: u32) -> f32 {
    let mut bits = position;
    bits = (bits ^ (bits >> 16)).wrapping_mul(0x85eb_ca6b);
    bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
    bits ^= bits >> 16;
    (bits >> 8) as f32 * 2f32.powi(-22) - 2.0
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            f,
            "training step of {}, batch {}, {} on {}",
            self.model, self.batch_size, self.precision, self.device
        )?;
        writeln!(f, "optimizer   {}", self.optimizer)?;
        match self.lowering.as_str() {
            "kernels" => writeln!(f, "kernels     for {}", self.isa)?,
            lowering => writeln!(f, "kernels     none: {lowering}")?,
        }
        writeln!(
            f,
            "step        {:.1} ms (quartiles {:.1} to {:.1}, n = {})",
            self.step_ms, self.step_ms_q1, self.step_ms_q3, self.n
        )?;
        writeln!(
            f,
            "host        {:.2} ms of it outside the executable, whose call takes {:.2} ms",
            self.host_ms, self.call_ms
        )?;
        writeln!(f, "throughput  {:.1} images/s", self.images_per_sec)?;
        writeln!(f, "compile     {:.1} s", self.compile_s)?;
        if let Some(peak) = self.peak_rss_mb {
            write!(f, "memory      {peak:.0} MB at most")?;
            if let Some(faults) = self.page_faults {
                write!(f, ", {faults:.0} page faults a step")?;
            }
            writeln!(f)?;
        }
        write!(
            f,
            "loss        {:.4} first, {:.4} after {} steps",
            self.first_loss,
            self.last_loss,
            self.warmup_steps + self.n
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceKind;
    use crate::model::choose::{self, ModelSettings};

    #[test]
    fn the_batch_is_the_one_that_the_scripts_of_the_peers_make() {
        // benches/peers/common.py: synthetic_batch(2)[0].ravel()[[0, 1, 2, 6143]]
        let settings = ModelSettings::tutorial(11, 2);
        let batch = synthetic_batch(&choose::build(&settings, DeviceKind::Cpu).unwrap());
        assert_eq!(batch.images.len(), 6144);
        assert_eq!(batch.labels, [0, 1]);
        let got = [0, 1, 2, 6143].map(|position| batch.images[position]);
        assert_eq!(got, [-2.0, -0.729_604_7, -1.235_060_9, -1.787_472_5]);
    }
}
