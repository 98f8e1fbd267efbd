//! The CPU in the test's own process.

use std::num::NonZeroUsize;
use std::path::Path;

use resnet_xla::device::Device;
use resnet_xla::device::DeviceChoice;
use resnet_xla::device::replicas::ReplicaChoice;
use resnet_xla::device::runtime;

use super::xla_flags;

/// The CPU as `replicas` devices, with `flags` for XLA, whose complaints about the kernels are not shown.
///
/// Call it once in a process, before anything else of XLA.
pub fn open_cpu(replicas: usize, flags: &str) -> Device {
    prepare(flags);
    let replicas = NonZeroUsize::new(replicas).map(ReplicaChoice::Count);
    Device::open(DeviceChoice::Cpu, None, replicas).unwrap()
}

/// The CPU plugin at `path` as one device: otherwise as [`open_cpu`], behind which it may be opened too.
pub fn open_cpu_plugin(path: &Path, flags: &str) -> Device {
    prepare(flags);
    Device::open(DeviceChoice::Auto, Some(path), None).unwrap()
}

fn prepare(flags: &str) {
    runtime::quiet(0);
    runtime::add_xla_flags(&xla_flags(flags));
}
