//! The network that comes with the program: `--preset fast`, trained on CIFAR-10. assets/README.md says more.

use std::path::Path;
use std::sync::LazyLock;

use xla_graphs::Layout;

use super::file::{metadata, parse_info, tensors};
use super::{CheckpointError, CheckpointInfo, WeightsChoice};
use crate::model::state::HostState;
use crate::system::embedded;

/// Compressed to four fifths of its size.
const COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fast.safetensors.zlib"));
static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| embedded::unpacked(COMPRESSED));
/// Its name in errors.
const NAME: &str = "assets/fast.safetensors";

/// What it says of itself.
pub fn info() -> Result<CheckpointInfo, CheckpointError> {
    let path = Path::new(NAME);
    parse_info(path, &metadata(path, &FILE)?)
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
    tensors(Path::new(NAME), &FILE, layout.network())
}
