//! The profiler of libtpu, as `./setup tpu` installs it: it starts, stops and answers without a TPU. Without libtpu the
//! test prints why it is skipped.

#[path = "support/installed.rs"]
mod installed;

use installed::installed;
use pjrt::Plugin;
use prost::Message;

/// The part of TensorFlow's `xplane.proto` that names what was recorded.
#[derive(Clone, PartialEq, prost::Message)]
struct XSpace {
    #[prost(message, repeated, tag = "1")]
    planes: Vec<XPlane>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct XPlane {
    #[prost(string, tag = "2")]
    name: String,
}

#[test]
fn libtpu_gives_a_recording_that_is_an_xspace() {
    let Some(path) = installed("tpu/libtpu.so", "tpu") else {
        return;
    };
    pjrt::keep_libtpu_offline();
    let plugin = Plugin::load(&path).unwrap();
    assert!(plugin.extensions().contains(&"Profiler".to_owned()));
    let recorded = plugin.record().unwrap().finish().unwrap();
    let space = XSpace::decode(&recorded[..]).unwrap();
    let names: Vec<_> = space.planes.iter().map(|plane| &plane.name).collect();
    println!("{} bytes, planes {names:?}", recorded.len());
    assert!(!names.is_empty());
}
