//! The compiled computations of a run, and the state they pass on.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use xla::{PjRtBuffer, PjRtLoadedExecutable, XlaComputation};
use xla_graphs::layout::{ARRAYS, NETWORK_ARRAYS};
use xla_graphs::step::metrics as slot;
use xla_graphs::{Layout, Model, eval_step, predict_step, train_step};

use crate::data::Batch;
use crate::device::Device;
use crate::metrics::BatchMetrics;
use crate::state::HostState;

/// A model on a device. Each computation is compiled once, when it is first needed.
pub struct Program<'a> {
    device: &'a Device,
    model: Model,
    layout: Layout,
    train: OnceCell<PjRtLoadedExecutable>,
    eval: OnceCell<PjRtLoadedExecutable>,
    predict: OnceCell<PjRtLoadedExecutable>,
}

/// The training state on the device. A step consumes it and returns the next: its buffers are
/// donated, and a donated buffer must not be named again.
pub struct State {
    buffers: Vec<PjRtBuffer>,
}

/// The network's part of a state on the device: what evaluation and prediction read.
pub struct Weights {
    buffers: Vec<PjRtBuffer>,
}

/// The metrics of a step that may still be running.
pub struct PendingMetrics {
    buffer: PjRtBuffer,
}

impl PendingMetrics {
    /// Waits for the step and reads its metrics.
    pub fn read(&self) -> Result<BatchMetrics> {
        let values: Vec<f32> = self
            .buffer
            .to_literal_sync()
            .and_then(|literal| literal.to_vec())
            .context("reading the metrics of a step")?;
        let vector: [f32; slot::LEN] = values.try_into().map_err(|got: Vec<f32>| {
            anyhow::anyhow!("metrics: expected {} values, got {}", slot::LEN, got.len())
        })?;
        Ok(BatchMetrics::from_vector(&vector))
    }
}

impl<'a> Program<'a> {
    /// `model` on `device`; compiles nothing yet.
    pub fn new(device: &'a Device, model: Model) -> Self {
        Self {
            device,
            layout: model.layout(),
            model,
            train: OnceCell::new(),
            eval: OnceCell::new(),
            predict: OnceCell::new(),
        }
    }

    /// The model that the program runs.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The table of state tensors.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Compiles the training step; returns how long tracing and compiling took.
    pub fn compile_train(&self) -> Result<Duration> {
        let start = Instant::now();
        self.train_executable()?;
        Ok(start.elapsed())
    }

    fn train_executable(&self) -> Result<&PjRtLoadedExecutable> {
        self.compiled(&self.train, "train_step", train_step)
    }

    fn eval_executable(&self) -> Result<&PjRtLoadedExecutable> {
        self.compiled(&self.eval, "eval_step", eval_step)
    }

    fn predict_executable(&self) -> Result<&PjRtLoadedExecutable> {
        self.compiled(&self.predict, "predict_step", predict_step)
    }

    fn compiled<'c>(
        &self,
        cell: &'c OnceCell<PjRtLoadedExecutable>,
        name: &str,
        trace: fn(&Model) -> xla_graphs::Result<XlaComputation>,
    ) -> Result<&'c PjRtLoadedExecutable> {
        if let Some(executable) = cell.get() {
            return Ok(executable);
        }
        let start = Instant::now();
        let computation = trace(&self.model).with_context(|| format!("tracing {name}"))?;
        let traced = start.elapsed();
        let executable = self
            .device
            .client()
            .compile(&computation)
            .with_context(|| format!("compiling {name}"))?;
        log::info!(
            "compiled {name} (compile 1 of 1): traced in {:.1} s, compiled in {:.1} s",
            traced.as_secs_f64(),
            (start.elapsed() - traced).as_secs_f64()
        );
        Ok(cell.get_or_init(|| executable))
    }

    /// Puts a state from the host on the device.
    pub fn upload_state(&self, state: &HostState) -> Result<State> {
        let buffers = self.upload_arrays(state, self.layout.state().len())?;
        Ok(State { buffers })
    }

    /// Puts the network's tensors ([`Layout::network`]) on the device.
    pub fn upload_weights(&self, weights: &HostState) -> Result<Weights> {
        let buffers = self.upload_arrays(weights, self.layout.network().len())?;
        Ok(Weights { buffers })
    }

    fn upload_arrays(&self, state: &HostState, tensors: usize) -> Result<Vec<PjRtBuffer>> {
        let got = state.values().len();
        ensure!(
            got == tensors,
            "state: expected {tensors} tensors, got {got}"
        );
        let arrays = self.layout.join(state.values());
        let pairs = ARRAYS.iter().zip(&arrays);
        pairs
            .map(|(array, values)| {
                self.device
                    .upload(values, &[values.len()])
                    .with_context(|| format!("uploading the {}", array.name()))
            })
            .collect()
    }

    /// Copies the state off the device.
    pub fn download_state(&self, state: &State) -> Result<HostState> {
        let pairs = ARRAYS.iter().zip(&state.buffers);
        let arrays: Vec<_> = pairs
            .map(|(array, buffer)| download(array.name(), buffer))
            .collect::<Result<_>>()?;
        Ok(HostState::new(self.layout.split(&arrays)))
    }

    /// Copies the network's tensors whose names `wanted` picks off the device, with their names.
    pub fn download_tensors(
        &self,
        state: &State,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, Vec<f32>)>> {
        let pairs = ARRAYS.iter().zip(&state.buffers).take(NETWORK_ARRAYS);
        let arrays: Vec<_> = pairs
            .map(|(array, buffer)| download(array.name(), buffer))
            .collect::<Result<_>>()?;
        let tensors = self.layout.network().iter().zip(self.layout.split(&arrays));
        Ok(tensors
            .filter(|(spec, _)| wanted(&spec.name))
            .map(|(spec, values)| (spec.name.clone(), values))
            .collect())
    }

    /// One training step: forward, backward and update in one execution.
    pub fn train_step(
        &self,
        state: State,
        batch: &Batch,
        learning_rate: f64,
    ) -> Result<(State, PendingMetrics)> {
        let images = self.upload_images(&batch.images)?;
        let labels = self.upload_labels(&batch.labels)?;
        let learning_rate = self.device.upload(&[learning_rate as f32], &[])?;
        let mut inputs: Vec<&PjRtBuffer> = state.buffers.iter().collect();
        inputs.extend([&images, &labels, &learning_rate]);
        let outputs = ARRAYS.len() + 1;
        let mut buffers = execute(self.train_executable()?, &inputs, outputs)?;
        let metrics = buffers.split_off(outputs - 1);
        let metrics = PendingMetrics {
            buffer: single(metrics)?,
        };
        Ok((State { buffers }, metrics))
    }

    /// [`Self::eval_step`] with the weights of a training state.
    pub fn eval_step_of_state(
        &self,
        state: &State,
        batch: &Batch,
    ) -> Result<(BatchMetrics, Vec<f32>)> {
        let network = &state.buffers[..NETWORK_ARRAYS];
        self.run_eval(network, batch)
    }

    /// Metrics of `batch`, and its logits `[N, classes]`, padding rows included.
    pub fn eval_step(&self, weights: &Weights, batch: &Batch) -> Result<(BatchMetrics, Vec<f32>)> {
        self.run_eval(&weights.buffers, batch)
    }

    fn run_eval(&self, network: &[PjRtBuffer], batch: &Batch) -> Result<(BatchMetrics, Vec<f32>)> {
        let images = self.upload_images(&batch.images)?;
        let labels = self.upload_labels(&batch.labels)?;
        let weights = self.device.upload(&batch.weights, &[self.model.batch])?;
        let mut inputs: Vec<&PjRtBuffer> = network.iter().collect();
        inputs.extend([&images, &labels, &weights]);
        let mut outputs = execute(self.eval_executable()?, &inputs, 2)?;
        let logits = single(outputs.split_off(1))?;
        let metrics = PendingMetrics {
            buffer: single(outputs)?,
        };
        Ok((metrics.read()?, download("logits", &logits)?))
    }

    /// Logits `[N, classes]` of normalised images `[N, H, W, 3]`.
    pub fn predict_step(&self, weights: &Weights, images: &[f32]) -> Result<Vec<f32>> {
        let images = self.upload_images(images)?;
        let mut inputs: Vec<&PjRtBuffer> = weights.buffers.iter().collect();
        inputs.push(&images);
        let logits = single(execute(self.predict_executable()?, &inputs, 1)?)?;
        download("logits", &logits)
    }

    fn upload_images(&self, images: &[f32]) -> Result<PjRtBuffer> {
        let dims = self.model.image_dims();
        self.device
            .upload(images, &dims)
            .context("uploading a batch's images")
    }

    fn upload_labels(&self, labels: &[i32]) -> Result<PjRtBuffer> {
        self.device
            .upload(labels, &[self.model.batch])
            .context("uploading a batch's labels")
    }
}

/// Copies an array off the device.
fn download(name: &str, buffer: &PjRtBuffer) -> Result<Vec<f32>> {
    buffer
        .to_literal_sync()
        .and_then(|literal| literal.to_vec())
        .with_context(|| format!("downloading `{name}`"))
}

/// Runs `executable` and checks how many arrays it returns.
fn execute(
    executable: &PjRtLoadedExecutable,
    inputs: &[&PjRtBuffer],
    outputs: usize,
) -> Result<Vec<PjRtBuffer>> {
    let mut replicas = executable.execute_b(inputs).context("running a step")?;
    let buffers = replicas.pop().unwrap_or_default();
    ensure!(
        replicas.is_empty() && buffers.len() == outputs,
        "a step returned {} arrays on {} devices; expected {outputs} on one",
        buffers.len(),
        replicas.len() + 1
    );
    Ok(buffers)
}

/// The only element of `buffers`.
fn single(mut buffers: Vec<PjRtBuffer>) -> Result<PjRtBuffer> {
    match (buffers.pop(), buffers.is_empty()) {
        (Some(buffer), true) => Ok(buffer),
        _ => anyhow::bail!("a step returned more or fewer arrays than it was traced with"),
    }
}
