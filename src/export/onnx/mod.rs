//! The network as an ONNX model: raw pixels in, logits out.
//!
//! ```text
//!  images, u8 [N, side, side, 3] ─► float ─► − mean ─► × 1/deviation ─► NCHW ─► the network ─► logits [N, classes]
//! ```
//!
//! The number of images is free, sides are fixed. Everything else that a program needs to use the model is in its
//! metadata: the names of the classes, the kind of the network, what it takes, the step.
//!
//! | file | job |
//! | --- | --- |
//! | `messages` | ONNX's protocol buffers |
//! | `graph` | nodes and their constants, one after another |
//! | `layers` | the network as such nodes |

mod graph;
mod layers;
pub mod messages;

use std::path::Path;

use anyhow::Result;
use prost::Message;

use super::{Exported, Format};
use crate::system::files;
use messages::{Model, Operators, Property};

pub const FORMAT: Format = Format {
    name: "onnx",
    help: "The network as an ONNX model that takes raw pixels",
    ending: "onnx",
    takes_bf16: false,
    takes_batch_size: false,
    write,
};

/// The version of ONNX's operators, and the first version of the file format that has them.
const OPERATORS: i64 = 17;
const FILE_VERSION: i64 = 8;

fn write(path: &Path, exported: &Exported) -> Result<()> {
    let model = model(exported)?;
    Ok(files::write_bytes(path, &model.encode_to_vec())?)
}

fn model(exported: &Exported) -> Result<Model> {
    Ok(Model {
        file_version: FILE_VERSION,
        producer_name: env!("CARGO_PKG_NAME").to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(layers::graph(exported)),
        operators: vec![Operators {
            domain: String::new(),
            version: OPERATORS,
        }],
        properties: properties(exported)?,
    })
}

fn properties(exported: &Exported) -> Result<Vec<Property>> {
    let info = &exported.info;
    let property = |key: &str, value: String| Property {
        key: key.to_owned(),
        value,
    };
    Ok(vec![
        property(
            "class_names",
            serde_json::to_string(&info.spec.class_names)?,
        ),
        property("network", info.network().to_string()),
        property("input", "red, green and blue from 0 to 255".to_owned()),
        property("step", info.position.step.to_string()),
    ])
}
