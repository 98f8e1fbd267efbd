//! What drives devices: one interface, with a member for the CPU of the XLA runtime and one for every plugin.
//!
//! Programs go in as serialised `HloModuleProto`s, so that a back end need not know who traced them.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use half::bf16;

use crate::device::saved_executable::Compiler;

/// What this process's part in collectives of several processes has been so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collectives {
    pub count: u64,
    /// That this process gave.
    pub bytes: u64,
    /// Waiting for the others included.
    pub time: Duration,
}

/// Devices of a kind, behind whatever drives them.
pub trait Backend: Send + Sync {
    /// Devices that this process can use.
    fn device_count(&self) -> usize;

    /// The number of this process, from 0, and how many share a program. Each has [`Self::device_count`] devices; the
    /// replicas of a program are those of the first process, then those of the next, and so on.
    fn processes(&self) -> (usize, usize) {
        (0, 1)
    }

    /// The collectives of this process since it joined the others; none where it is alone, or where they are the
    /// devices' own.
    fn collectives(&self) -> Option<Collectives> {
        None
    }

    /// The kind of the first device, in the back end's words, for example `TPU v5 lite`.
    fn device_kind(&self) -> &str;

    /// What there is to know about the back end and its devices, a line each.
    fn report(&self) -> Result<Vec<String>>;

    /// Compiles `hlo`, a serialised `HloModuleProto`, for the first `replicas` devices; of several processes, for all.
    fn compile(&self, hlo: &[u8], replicas: usize) -> Result<Box<dyn Executable>>;

    /// What a compiled program for the first `replicas` devices depends on besides the program; none where it cannot
    /// be kept.
    fn identity(&self, _replicas: usize) -> Option<Vec<String>> {
        None
    }

    /// Loads what [`Executable::to_bytes`] gave on a back end of the same [`Self::identity`].
    fn load(&self, _executable: &[u8], _replicas: usize) -> Result<Box<dyn Executable>> {
        anyhow::bail!("this back end loads no compiled programs")
    }

    /// Records what the devices do from now on.
    ///
    /// # Errors
    /// A back end that has no way to tell; what it says when it cannot start.
    fn record(&self) -> Result<pjrt::Recording> {
        anyhow::bail!("what drives it has no profiler")
    }

    /// What compiled programs that are loaded from a file must have been compiled by and for; none where none are
    /// loaded.
    fn compiler(&self) -> Option<&Compiler> {
        None
    }

    /// Copies `values`, row-major, to device number `device` of this process as an array of dimensions `dims`.
    fn upload(
        &self,
        values: Values<'_>,
        dims: &[usize],
        device: usize,
    ) -> Result<Box<dyn DeviceArray>>;
}

/// A compiled program.
pub trait Executable: Send + Sync {
    /// Starts the program on each device of this process with that device's inputs; returns each one's outputs, which
    /// may still be computed. An input whose place an output takes must not be used again.
    ///
    /// # Errors
    /// An array of another back end; what the back end says against the inputs. What goes wrong later shows when an
    /// output is read.
    fn run(&self, inputs: &[Vec<&dyn DeviceArray>]) -> Result<Vec<Vec<Box<dyn DeviceArray>>>>;

    /// The compiled program as bytes, for [`Backend::load`].
    fn to_bytes(&self) -> Result<Vec<u8>> {
        anyhow::bail!("this back end's compiled programs cannot be kept")
    }
}

/// An array on a device, possibly one that is still being copied or computed.
pub trait DeviceArray: Any + Send + Sync {
    /// Waits until the array is there.
    fn wait(&self) -> Result<()>;

    /// Waits until the array is there and copies it to the host, row-major.
    ///
    /// # Errors
    /// Elements that are no f32; whatever went wrong on the way to these values.
    fn to_f32(&self) -> Result<Vec<f32>>;
}

/// Values on the host.
pub enum Values<'a> {
    F32(&'a [f32]),
    I32(&'a [i32]),
    Bf16(&'a [bf16]),
    /// Values that the back end may go on reading after it has returned.
    Shared(Arc<Vec<f32>>),
}

/// A type of [`Values`].
pub trait HostElement: Copy + Send + Sync {
    fn values(values: &[Self]) -> Values<'_>;
}

impl HostElement for f32 {
    fn values(values: &[Self]) -> Values<'_> {
        Values::F32(values)
    }
}

impl HostElement for i32 {
    fn values(values: &[Self]) -> Values<'_> {
        Values::I32(values)
    }
}

impl HostElement for bf16 {
    fn values(values: &[Self]) -> Values<'_> {
        Values::Bf16(values)
    }
}

/// `inputs` as the arrays of a back end, which are of type `T`.
///
/// # Errors
/// When one of them belongs to another back end.
pub fn own<'a, T: DeviceArray>(inputs: &[Vec<&'a dyn DeviceArray>]) -> Result<Vec<Vec<&'a T>>> {
    let own = |array: &&'a dyn DeviceArray| {
        let array = *array as &dyn Any;
        let own = array.downcast_ref::<T>();
        own.ok_or_else(|| anyhow::anyhow!("an input of a program is on a device of another kind"))
    };
    let lists = inputs.iter();
    lists.map(|list| list.iter().map(own).collect()).collect()
}

/// The outputs of a program, without their back end's type.
pub fn boxed<T: DeviceArray>(outputs: Vec<Vec<T>>) -> Vec<Vec<Box<dyn DeviceArray>>> {
    let boxed = |array| Box::new(array) as Box<dyn DeviceArray>;
    let lists = outputs.into_iter();
    lists
        .map(|list| list.into_iter().map(boxed).collect())
        .collect()
}
