//! The compiled computations of a run, and the state they pass on.

use std::panic;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use xla_graphs::model::metrics as slot;
use xla_graphs::table::{Array, NETWORK_ARRAYS};
use xla_graphs::{Computation, Layout, Model, average, eval_step, predict_step, train_step};

use crate::data::{Batch, Mixed};
use crate::device::backend::{Collectives, DeviceArray, Executable, Hlo, HostElement};
use crate::device::saved_executable::SavedExecutableError;
use crate::device::{Compiled, Device, Origin, Sought};
use crate::model::choose::{self, ModelSettings};
use crate::model::metrics::BatchMetrics;
use crate::model::program_folder::{ProgramFolder, Use};
use crate::model::state::HostState;
use crate::system::memory;

/// A model on the devices of its replicas. Each computation is compiled once, when it is first needed.
pub struct Program<'a> {
    device: &'a Device,
    model: Model,
    layout: Layout,
    /// Where the computations come from, if they were traced elsewhere.
    folder: Option<ProgramFolder>,
    train: Step,
    eval: Step,
    predict: Step,
}

/// One of the computations.
struct Step {
    name: &'static str,
    trace: fn(&Model) -> xla_graphs::Result<Computation>,
    /// What [`Program::look_ahead`] found.
    ahead: Mutex<Option<Ahead>>,
    ready: OnceLock<Ready>,
}

/// A computation that is traced, and that was looked for among those that were compiled before.
struct Ahead {
    sought: Sought,
    /// "traced", or "read" where it was traced elsewhere.
    source: &'static str,
    traced: Duration,
    /// How long it took to look for it, and to load it if it was there.
    looked: Duration,
}

/// A computation that can run.
struct Ready {
    compiled: Compiled,
    origin: ExecutableOrigin,
    /// How long it took to trace it and to compile or to load it.
    took: Duration,
}

impl Step {
    fn new(name: &'static str, trace: fn(&Model) -> xla_graphs::Result<Computation>) -> Self {
        Self {
            name,
            trace,
            ahead: Mutex::new(None),
            ready: OnceLock::new(),
        }
    }
}

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
    fn new(
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

    fn log(&self, source: &str) {
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

/// The training state, the same on the device of each replica, of which those of this process are here. A step consumes it and returns the
/// next: its buffers are donated, and a donated buffer must not be named again.
pub struct State {
    replicas: Vec<Vec<Box<dyn DeviceArray>>>,
}

/// Weights and moving statistics on each device: what evaluation and prediction read.
pub struct Weights {
    replicas: Vec<Vec<Box<dyn DeviceArray>>>,
}

/// A batch and its learning rate on the device of each of this process's replicas, a share each.
pub struct StepInputs {
    replicas: Vec<Vec<Box<dyn DeviceArray>>>,
}

/// The metrics of a step that may still be running.
pub struct PendingMetrics {
    array: Box<dyn DeviceArray>,
}

impl PendingMetrics {
    /// Of all replicas' metrics, which are the same, the first one's.
    fn of(replicas: Vec<Box<dyn DeviceArray>>) -> Result<Self> {
        let array = replicas.into_iter().next();
        Ok(Self {
            array: array.context("a step returned no metrics")?,
        })
    }

    /// Waits for the step and reads its metrics.
    pub fn read(&self) -> Result<BatchMetrics> {
        let values = self
            .array
            .to_f32()
            .context("reading the metrics of a step")?;
        let vector: [f32; slot::LEN] = values.try_into().map_err(|got: Vec<f32>| {
            anyhow::anyhow!("metrics: expected {} values, got {}", slot::LEN, got.len())
        })?;
        Ok(BatchMetrics::from_vector(&vector))
    }
}

/// What an evaluation step that may still be running gives.
pub struct PendingEvaluation {
    metrics: PendingMetrics,
    /// The rows of each replica of this process.
    logits: Vec<Box<dyn DeviceArray>>,
}

impl PendingEvaluation {
    /// Waits for the step and reads the metrics of the batch of all processes, and the logits `[N, classes]` of this
    /// one's rows, padding included.
    pub fn read(self) -> Result<(BatchMetrics, Vec<f32>)> {
        Ok((self.metrics.read()?, download_rows(&self.logits)?))
    }
}

impl<'a> Program<'a> {
    /// `model` on `device`; traces and compiles nothing yet.
    pub fn new(device: &'a Device, model: Model) -> Self {
        Self {
            device,
            layout: model.layout(),
            model,
            folder: None,
            train: Step::new("train_step", train_step),
            eval: Step::new("eval_step", eval_step),
            predict: Step::new("predict_step", predict_step),
        }
    }

    /// What `settings` ask for on `device`, traced when it is needed, or in `folder` already.
    ///
    /// # Errors
    /// Settings of which there is no network; a folder that is for others ([`ProgramFolder::model`]).
    pub fn of(
        device: &'a Device,
        settings: &ModelSettings,
        used: Use,
        folder: Option<ProgramFolder>,
    ) -> Result<Self> {
        let model = match &folder {
            Some(folder) => folder.model(settings, used, device.kind)?,
            None => choose::build(settings, device.kind)?,
        };
        Ok(Self {
            folder,
            ..Self::new(device, model)
        })
    }

    /// The model that the program runs.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The table of state tensors.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Traces the training step and loads it if it was compiled before, and loads what the files of executables have.
    /// What is still to be compiled is left to [`Self::compile_train`].
    ///
    /// # Errors
    /// A file of an executable that is of another computation, or cannot be loaded.
    pub fn look_ahead(&self) -> Result<()> {
        for step in [&self.train, &self.eval, &self.predict] {
            if step.name == self.train.name || self.device.has_saved(step.name) {
                let ahead = self.look_for(step)?;
                *step.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
            }
        }
        Ok(())
    }

    /// Compiles the training step, or loads it; returns how long that and tracing took.
    pub fn compile_train(&self) -> Result<Duration> {
        Ok(self.ready(&self.train)?.took)
    }

    /// What the other processes have cost this one so far ([`Device::collectives`]).
    pub fn collectives(&self) -> Option<Collectives> {
        self.device.collectives()
    }

    /// Where the computations that were needed so far came from.
    pub fn origins(&self) -> Vec<ExecutableOrigin> {
        let steps = [&self.train, &self.eval, &self.predict];
        let ready = steps.into_iter().filter_map(|step| step.ready.get());
        ready.map(|ready| ready.origin).collect()
    }

    /// The SHA-256 sum of the training step as it is traced, which is kept for its compilation.
    pub fn train_digest(&self) -> Result<String> {
        let mut kept = self
            .train
            .ahead
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let ahead = match kept.take() {
            Some(ahead) => ahead,
            None => self.look_for(&self.train)?,
        };
        let digest = ahead.sought.digest();
        *kept = Some(ahead);
        Ok(digest)
    }

    fn executable<'c>(&self, step: &'c Step) -> Result<&'c dyn Executable> {
        Ok(self.ready(step)?.compiled.executable.as_ref())
    }

    fn ready<'c>(&self, step: &'c Step) -> Result<&'c Ready> {
        if let Some(ready) = step.ready.get() {
            return Ok(ready);
        }
        let found = step
            .ahead
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let ahead = match found {
            Some(ahead) => ahead,
            None => self.look_for(step)?,
        };
        let start = Instant::now();
        let compiled = self.device.compile_unless_found(ahead.sought);
        let compiled = compiled.map_err(|error| self.not_compiled(step, error))?;
        memory::give_back_freed_memory();
        let took = ahead.looked + start.elapsed();
        let origin = ExecutableOrigin::new(step.name, &compiled, ahead.traced, took);
        origin.log(ahead.source);
        Ok(step.ready.get_or_init(|| Ready {
            compiled,
            origin,
            took: ahead.traced + took,
        }))
    }

    /// Traces `step`, or reads it where it was traced before, and looks for it among what was compiled before.
    fn look_for(&self, step: &Step) -> Result<Ahead> {
        let start = Instant::now();
        let (source, hlo) = match &self.folder {
            Some(folder) => ("read", folder.hlo(step.name)?),
            None => {
                let traced = (step.trace)(&self.model);
                let traced = traced.with_context(|| format!("tracing {}", step.name))?;
                ("traced", Hlo::Traced(&traced).to_bytes()?.into_owned())
            }
        };
        let traced = start.elapsed();
        let (name, replicas) = (step.name, self.model.replicas.0);
        let sought = self.device.look_for(name, hlo, replicas);
        Ok(Ahead {
            sought: sought.map_err(|error| self.not_compiled(step, error))?,
            source,
            traced,
            looked: start.elapsed() - traced,
        })
    }

    /// The `error` of compiling or loading `step`, with what it means here.
    fn not_compiled(&self, step: &Step, error: anyhow::Error) -> anyhow::Error {
        if error.is::<SavedExecutableError>() {
            return error;
        }
        let name = step.name;
        match &self.folder {
            Some(folder) => folder.not_compiled(name, self.device.kind, &error).into(),
            None => error.context(format!("compiling {name}")),
        }
    }

    /// The replicas on the devices of this process.
    fn own_replicas(&self) -> usize {
        self.model.replicas.0 / self.device.processes()
    }

    /// Puts a state from the host on each device.
    pub fn upload_state(&self, state: &HostState) -> Result<State> {
        let replicas = self.upload_arrays(state, self.layout.state().len())?;
        Ok(State { replicas })
    }

    /// Puts the network's tensors ([`Layout::network`]) on each device.
    pub fn upload_weights(&self, weights: &HostState) -> Result<Weights> {
        let replicas = self.upload_arrays(weights, self.layout.network().len())?;
        Ok(Weights { replicas })
    }

    fn upload_arrays(
        &self,
        state: &HostState,
        tensors: usize,
    ) -> Result<Vec<Vec<Box<dyn DeviceArray>>>> {
        let got = state.values().len();
        ensure!(
            got == tensors,
            "state: expected {tensors} tensors, got {got}"
        );
        let arrays = self.layout.join(state.values());
        let arrays: Vec<_> = arrays.into_iter().map(Arc::new).collect();
        let names = self.layout.arrays();
        self.on_each_replica(|replica| {
            let pairs = names.iter().zip(&arrays);
            let upload = |(array, values): (&Array, &Arc<Vec<f32>>)| {
                let uploaded = self.device.upload_shared(Arc::clone(values), replica);
                uploaded.with_context(|| uploading(array.name(), replica))
            };
            pairs.map(upload).collect()
        })
    }

    /// Copies the state off the first device.
    pub fn download_state(&self, state: &State) -> Result<HostState> {
        self.download_replica(state, 0)
    }

    /// Copies the state off the device of `replica`.
    ///
    /// # Panics
    /// When there is no such replica.
    pub fn download_replica(&self, state: &State, replica: usize) -> Result<HostState> {
        let arrays = download_arrays(&self.layout.arrays(), &state.replicas[replica])?;
        Ok(HostState::new(self.layout.split(&arrays)))
    }

    /// Copies the network's tensors whose names `wanted` picks off the device, with their names.
    pub fn download_tensors(
        &self,
        state: &State,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, Vec<f32>)>> {
        let arrays = download_arrays(&self.layout.arrays(), &state.replicas[0][..NETWORK_ARRAYS])?;
        let tensors = self.layout.network().iter().enumerate();
        Ok(tensors
            .filter(|(_, spec)| wanted(&spec.name))
            .map(|(index, spec)| {
                (
                    spec.name.clone(),
                    self.layout.values(index, &arrays).to_vec(),
                )
            })
            .collect())
    }

    /// Puts what a training step reads besides the state on each device.
    pub fn upload_batch(&self, batch: &Batch, learning_rate: f64) -> Result<StepInputs> {
        let replicas = self.on_each_replica(|replica| {
            let mut inputs = vec![
                self.upload_images(&batch.images, replica)?,
                self.upload_per_image("labels", &batch.labels, replica)?,
                self.upload("learning rate", &[learning_rate as f32], &[], replica)?,
            ];
            if self.model.optimiser.needs_step_count() {
                let count = (batch.step + 1) as f32;
                inputs.push(self.upload("step count", &[count], &[], replica)?);
            }
            if self.model.mixes_labels {
                let Mixed { labels, shares } = &batch.mixed;
                inputs.push(self.upload_per_image("second labels", labels, replica)?);
                inputs.push(self.upload_per_image("label shares", shares, replica)?);
            }
            Ok(inputs)
        })?;
        Ok(StepInputs { replicas })
    }

    /// One training step: forward, backward and update in one execution.
    pub fn train_step(&self, state: State, inputs: &StepInputs) -> Result<(State, PendingMetrics)> {
        let outputs = self.layout.arrays().len() + 1;
        let state = borrowed(&state.replicas);
        let mut replicas = execute(
            self.executable(&self.train)?,
            state,
            &inputs.replicas,
            outputs,
        )?;
        let metrics = PendingMetrics::of(take_last(&mut replicas))?;
        Ok((State { replicas }, metrics))
    }

    /// [`Self::eval_step`] with the weights of a training state, or with their average where there is one.
    pub fn eval_step_of_state(&self, state: &State, batch: &Batch) -> Result<PendingEvaluation> {
        let average = self.layout.slot(average::SLOT);
        let networks = state.replicas.iter().map(|state| {
            let mut network: Vec<_> = references(&state[..NETWORK_ARRAYS]);
            if let Some(average) = average {
                network[Array::Weights.index()] = state[average.index()].as_ref();
            }
            network
        });
        self.run_eval(networks, batch)
    }

    /// Starts the evaluation of `batch`.
    pub fn eval_step(&self, weights: &Weights, batch: &Batch) -> Result<PendingEvaluation> {
        self.run_eval(borrowed(&weights.replicas), batch)
    }

    fn run_eval<'b>(
        &self,
        networks: impl Iterator<Item = Vec<&'b dyn DeviceArray>>,
        batch: &Batch,
    ) -> Result<PendingEvaluation> {
        let shards = self.on_each_replica(|replica| {
            Ok(vec![
                self.upload_images(&batch.images, replica)?,
                self.upload_per_image("labels", &batch.labels, replica)?,
                self.upload_per_image("weights", &batch.weights, replica)?,
            ])
        })?;
        let mut replicas = execute(self.executable(&self.eval)?, networks, &shards, 2)?;
        let logits = take_last(&mut replicas);
        let metrics = PendingMetrics::of(take_last(&mut replicas))?;
        Ok(PendingEvaluation { metrics, logits })
    }

    /// Logits `[N, classes]` of normalised images `[N, H, W, 3]`.
    pub fn predict_step(&self, weights: &Weights, images: &[f32]) -> Result<Vec<f32>> {
        let shards =
            self.on_each_replica(|replica| Ok(vec![self.upload_images(images, replica)?]))?;
        let networks = borrowed(&weights.replicas);
        let mut replicas = execute(self.executable(&self.predict)?, networks, &shards, 1)?;
        download_rows(&take_last(&mut replicas))
    }

    /// Runs `work` for each of this process's replicas, on a thread of its own where there are several.
    fn on_each_replica<T: Send>(&self, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
        let replicas = self.own_replicas();
        if replicas == 1 {
            return Ok(vec![work(0)?]);
        }
        let work = &work;
        thread::scope(|scope| {
            let threads: Vec<_> = (0..replicas)
                .map(|replica| scope.spawn(move || work(replica)))
                .collect();
            let ended = threads.into_iter().map(|thread| thread.join());
            ended
                .map(|result| result.unwrap_or_else(|panic| panic::resume_unwind(panic)))
                .collect()
        })
    }

    /// Uploads the images of `replica` out of those of this process's rows of a batch.
    fn upload_images(&self, images: &[f32], replica: usize) -> Result<Box<dyn DeviceArray>> {
        self.upload_shard("images", images, &self.model.image_dims(), replica)
    }

    /// Uploads the values of the images of `replica` out of one for each image of this process's rows of a batch.
    fn upload_per_image<T: HostElement>(
        &self,
        name: &str,
        values: &[T],
        replica: usize,
    ) -> Result<Box<dyn DeviceArray>> {
        self.upload_shard(name, values, &[self.model.batch], replica)
    }

    /// Uploads the share of `replica`, of dimensions `dims`, of the values of this process's rows of a batch.
    fn upload_shard<T: HostElement>(
        &self,
        name: &str,
        whole: &[T],
        dims: &[usize],
        replica: usize,
    ) -> Result<Box<dyn DeviceArray>> {
        let len: usize = dims.iter().product();
        let expected = len * self.own_replicas();
        let got = whole.len();
        ensure!(
            got == expected,
            "the {name} of a batch: expected {expected} values, got {got}"
        );
        self.upload(name, &whole[len * replica..][..len], dims, replica)
    }

    fn upload<T: HostElement>(
        &self,
        name: &str,
        values: &[T],
        dims: &[usize],
        replica: usize,
    ) -> Result<Box<dyn DeviceArray>> {
        self.device
            .upload(values, dims, replica)
            .with_context(|| uploading(name, replica))
    }
}

fn uploading(name: &str, replica: usize) -> String {
    format!("uploading the {name} to the device of replica {replica}")
}

/// Copies an array off the device.
fn download(name: &str, array: &dyn DeviceArray) -> Result<Vec<f32>> {
    let values = array.to_f32();
    values.with_context(|| format!("downloading `{name}`"))
}

/// Copies the first of `arrays`, as many as there are on the device, off it.
fn download_arrays(arrays: &[Array], there: &[Box<dyn DeviceArray>]) -> Result<Vec<Vec<f32>>> {
    let pairs = arrays.iter().zip(there);
    pairs
        .map(|(array, there)| download(array.name(), there.as_ref()))
        .collect()
}

/// The logits of a whole batch, one replica's images behind the other's.
fn download_rows(replicas: &[Box<dyn DeviceArray>]) -> Result<Vec<f32>> {
    let mut logits = Vec::new();
    for rows in replicas {
        logits.extend(download("logits", rows.as_ref())?);
    }
    Ok(logits)
}

/// Runs `executable` on all replicas, each with its own of the `states` and the `shards`. Returns the
/// arrays of each, and checks that there are `outputs`.
fn execute<'b>(
    executable: &dyn Executable,
    states: impl Iterator<Item = Vec<&'b dyn DeviceArray>>,
    shards: &[Vec<Box<dyn DeviceArray>>],
    outputs: usize,
) -> Result<Vec<Vec<Box<dyn DeviceArray>>>> {
    let pairs = states.zip(shards);
    let inputs: Vec<Vec<&dyn DeviceArray>> = pairs
        .map(|(state, shard)| state.into_iter().chain(references(shard)).collect())
        .collect();
    let replicas = executable.run(&inputs).context("running a step")?;
    let lengths: Vec<usize> = replicas.iter().map(Vec::len).collect();
    ensure!(
        lengths == vec![outputs; inputs.len()],
        "a step returned {lengths:?} arrays; expected {outputs} from each of {} replicas",
        inputs.len()
    );
    Ok(replicas)
}

/// The arrays of each replica, by reference.
fn borrowed(replicas: &[Vec<Box<dyn DeviceArray>>]) -> impl Iterator<Item = Vec<&dyn DeviceArray>> {
    replicas.iter().map(|arrays| references(arrays))
}

fn references(arrays: &[Box<dyn DeviceArray>]) -> Vec<&dyn DeviceArray> {
    arrays.iter().map(Box::as_ref).collect()
}

/// Takes the last array off those of each replica.
fn take_last(replicas: &mut [Vec<Box<dyn DeviceArray>>]) -> Vec<Box<dyn DeviceArray>> {
    replicas.iter_mut().filter_map(Vec::pop).collect()
}
