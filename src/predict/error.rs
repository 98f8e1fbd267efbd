//! What can go wrong between a checkpoint and a class.

use crate::data::picture::PictureError;
use crate::device::DeviceError;
use crate::run::checkpoint::CheckpointError;

/// Why there is no prediction.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Picture(#[from] PictureError),
    #[error("the network takes images of {expected} x {expected} pixels, got {got} x {got}")]
    Side { expected: usize, got: usize },
    #[error("an image of {side} x {side} pixels has {side} x {side} x 3 values, got {got}")]
    Pixels { side: usize, got: usize },
    #[error(transparent)]
    Run(#[from] anyhow::Error),
}
