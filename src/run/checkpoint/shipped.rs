//! The network that comes with the program: `--preset fast`, trained on CIFAR-10. assets/README.md says more.

use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

use flate2::read::ZlibDecoder;
use xla_graphs::Layout;

use super::CheckpointError;
use super::file::{CheckpointInfo, WeightsChoice, metadata, parse_info, tensors};
use crate::model::state::HostState;

/// As `build.rs` compressed it: four fifths of its size.
const COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fast.safetensors.zlib"));
static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut file = Vec::new();
    let read = ZlibDecoder::new(COMPRESSED).read_to_end(&mut file);
    // The compressed bytes are part of the program, whole as the compressor wrote them.
    read.expect("the network that comes with the program");
    file
});
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
