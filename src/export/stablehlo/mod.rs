//! The network as a StableHLO program: raw pixels in, logits out.
//!
//! ```text
//!  images, u8 [N, side, side, 3] ─► float ─► − mean ─► × 1/deviation ─► the network ─► logits [N, classes]
//! ```
//!
//! It is MLIR's text, for XLA, JAX and IREE. Every size is fixed, as XLA wants it: `--batch-size` says N. A comment in the
//! first line has the names of the classes, as JSON.
//!
//! | file | job |
//! | --- | --- |
//! | `body` | operations one after another, and how they are written |
//! | `layers` | the network as such operations |

mod body;
mod layers;

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::{Exported, Format};
use crate::system::files;

pub const FORMAT: Format = Format {
    name: "stablehlo",
    help: "The network as a StableHLO program (MLIR text) for a batch of --batch-size images",
    ending: "mlir",
    takes_bf16: false,
    takes_batch_size: true,
    write,
};

fn write(path: &Path, exported: &Exported) -> Result<()> {
    let facts = json!({
        "class_names": exported.info.spec.class_names,
        "network": exported.info.network().to_string(),
    });
    // JSON has no line ends in its text.
    let program = format!("// {facts}\n{}", layers::module(exported));
    Ok(files::write_text(path, &program)?)
}
