//! The network that comes with the program: `--preset fast`, trained on CIFAR-10. assets/README.md says more.

use std::path::Path;

use xla_graphs::Layout;

use super::CheckpointError;
use super::file::{CheckpointInfo, WeightsChoice, metadata, parse_info, tensors};
use crate::model::state::HostState;

const FILE: &[u8] = include_bytes!("../../../assets/fast.safetensors");
/// Its name in errors.
const NAME: &str = "assets/fast.safetensors";

/// What it says of itself.
pub fn info() -> Result<CheckpointInfo, CheckpointError> {
    let path = Path::new(NAME);
    parse_info(path, &metadata(path, FILE)?)
}

/// Its weights and moving statistics, in the order of [`Layout::network`]. It has no averages to choose.
pub fn network(
    layout: &Layout,
    choice: Option<WeightsChoice>,
) -> Result<HostState, CheckpointError> {
    if choice == Some(WeightsChoice::Average) {
        let path = NAME.into();
        return Err(CheckpointError::NoAverages { path });
    }
    tensors(Path::new(NAME), FILE, layout.network())
}
