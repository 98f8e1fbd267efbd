//! The tensors under this program's names, in safetensors: `eval`, `predict` and `--init-weights` read them again.

use std::path::Path;

use anyhow::Result;
use safetensors::Dtype;

use super::{Exported, Format};
use crate::run::checkpoint;

pub const FORMAT: Format = Format {
    name: "safetensors",
    help: "Weights and moving statistics by name, for this program and others",
    ending: "safetensors",
    takes_bf16: true,
    takes_batch_size: false,
    write,
};

fn write(path: &Path, exported: &Exported) -> Result<()> {
    let Exported {
        info,
        layout,
        values,
        ..
    } = exported;
    let dtype = match exported.bf16 {
        true => Dtype::BF16,
        false => Dtype::F32,
    };
    Ok(checkpoint::save_network(path, layout, values, info, dtype)?)
}
