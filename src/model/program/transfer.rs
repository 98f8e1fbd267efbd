//! From the host to the devices of the replicas, and back.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use xla_graphs::table::{Array, NETWORK_ARRAYS};

use super::{Program, State, StepInputs, Weights};
use crate::data::{Batch, Mixed};
use crate::device::backend::{DeviceArray, HostElement};
use crate::model::state::HostState;

impl Program<'_> {
    /// Puts a state from the host on each device.
    pub fn upload_state(&self, state: &HostState) -> Result<State> {
        let replicas = self.upload_arrays(state, self.layout.state().len())?;
        Ok(State { replicas })
    }

    /// Puts the network's tensors ([`Layout::network`](xla_graphs::Layout::network)) on each device.
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

    /// Uploads the images of `replica` out of those of this process's rows of a batch.
    pub(super) fn upload_images(
        &self,
        images: &[f32],
        replica: usize,
    ) -> Result<Box<dyn DeviceArray>> {
        self.upload_shard("images", images, &self.model.image_dims(), replica)
    }

    /// Uploads the values of the images of `replica` out of one for each image of this process's rows of a batch.
    pub(super) fn upload_per_image<T: HostElement>(
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
pub(super) fn download_rows(replicas: &[Box<dyn DeviceArray>]) -> Result<Vec<f32>> {
    let mut logits = Vec::new();
    for rows in replicas {
        logits.extend(download("logits", rows.as_ref())?);
    }
    Ok(logits)
}
