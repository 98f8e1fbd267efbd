//! The network as a Keras model: raw pixels in, logits out.
//!
//! A `.keras` file is a zip archive of two JSON texts and one HDF5 file. The names of the classes are in
//! `metadata.json`, which Keras itself does not read.
//!
//! | file | job |
//! | --- | --- |
//! | `layers` | the network as Keras's layers, and which of our tensors each has |
//! | `hdf5` | arrays in groups as an HDF5 file |

mod hdf5;
mod layers;

use std::io::{Cursor, Write};
use std::path::Path;

use anyhow::Result;
use serde_json::json;
use zip::result::ZipResult;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::{Exported, Format};
use crate::system::files;
use hdf5::Node;
use layers::{Layers, Variables};

pub const FORMAT: Format = Format {
    name: "keras",
    help: "The network as a Keras model that takes raw pixels",
    ending: "keras",
    takes_bf16: false,
    takes_batch_size: false,
    write,
};

/// The version of Keras that writes such files.
const KERAS: &str = "3.15.1";

fn write(path: &Path, exported: &Exported) -> Result<()> {
    let Layers { config, variables } = layers::of(exported);
    let metadata = json!({
        "keras_version": KERAS,
        "class_names": exported.info.spec.class_names,
        "network": exported.info.network().to_string(),
        "written_by": concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")),
    });
    let archive = archive(&[
        ("metadata.json", metadata.to_string().as_bytes()),
        ("config.json", config.to_string().as_bytes()),
        ("model.weights.h5", &hdf5::file(&tree(exported, &variables))),
    ])?;
    Ok(files::write_bytes(path, &archive)?)
}

/// A zip archive of `files`: names and contents. They are not compressed, since weights have nothing to compress, and
/// have a fixed date: the same network gives the same file.
fn archive(files: &[(&str, &[u8])]) -> ZipResult<Vec<u8>> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        archive.start_file(*name, options)?;
        archive.write_all(content)?;
    }
    Ok(archive.finish()?.into_inner())
}

/// `layers/LAYER/vars/NUMBER`, as Keras stores the variables of a model.
fn tree<'a>(exported: &'a Exported, variables: &[Variables]) -> Node<'a> {
    let tensors = exported.tensors();
    let layers = variables.iter().map(
        |Variables {
             layer,
             tensors: names,
         }| {
            let arrays = names.iter().enumerate().map(|(number, name)| {
                let (spec, values) = tensors[name.as_str()];
                let dims = &spec.dims;
                (number.to_string(), Node::Array { dims, values })
            });
            let vars = Node::Group(arrays.collect());
            (layer.clone(), Node::Group(vec![("vars".to_owned(), vars)]))
        },
    );
    let layers = Node::Group(layers.collect());
    Node::Group(vec![("layers".to_owned(), layers)])
}
