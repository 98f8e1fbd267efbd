//! The compiled computations of a run, and the state they pass on.

mod computations;
mod origin;
mod pending;
mod transfer;

use std::panic;
use std::thread;

use anyhow::{Context, Result, ensure};
use xla_graphs::table::{Array, NETWORK_ARRAYS};
use xla_graphs::{Layout, Model, average, eval_step, predict_step, train_step};

use crate::data::Batch;
use crate::device::Device;
use crate::device::backend::{Collectives, DeviceArray, Executable};
use crate::model::choose::{self, ModelSettings};
use crate::model::program_folder::{ProgramFolder, Use};

use self::computations::Step;
use self::transfer::download_rows;

pub use self::origin::ExecutableOrigin;
pub use self::pending::{PendingEvaluation, PendingMetrics};

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

    /// What the other processes have cost this one so far ([`Device::collectives`]).
    pub fn collectives(&self) -> Option<Collectives> {
        self.device.collectives()
    }

    /// The replicas on the devices of this process.
    fn own_replicas(&self) -> usize {
        self.model.replicas.0 / self.device.processes()
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
