//! The device of a process, its executables and arrays.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use half::bf16;

use super::JOINED;
use super::functions::{Functions, check};
use crate::device::backend::{Backend, Collectives, DeviceArray, Executable, Values, boxed, own};
use crate::device::processes::Processes;

/// XLA's numbers of element types.
const S32: c_int = 4;
const F32: c_int = 11;
const BF16: c_int = 16;

/// The CPUs of several processes, one device in each.
pub struct MpiCpu {
    client: Arc<Client>,
    processes: (usize, usize),
}

struct Client {
    functions: &'static Functions,
    raw: *mut c_void,
}

// SAFETY: XLA's clients, executables and buffers may be used from any thread.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: the library made it, and nothing of it is left: what it made holds on to it.
        unsafe { (self.functions.close)(self.raw) }
    }
}

impl MpiCpu {
    /// Opens this process's device, after [`join`](super::join).
    pub fn open(processes: &Processes) -> Result<Self> {
        let functions = JOINED.get().context("MPI was not joined")?;
        let mut raw = ptr::null_mut();
        let (index, count) = (processes.index as c_int, processes.count as c_int);
        // SAFETY: the pointer is valid for the call.
        check(unsafe { (functions.open)(index, count, &mut raw) })?;
        let client = Arc::new(Client { functions, raw });
        let processes = (processes.index, processes.count);
        Ok(Self { client, processes })
    }
}

impl Backend for MpiCpu {
    fn device_count(&self) -> usize {
        1
    }

    fn processes(&self) -> (usize, usize) {
        self.processes
    }

    fn device_kind(&self) -> &str {
        "cpu"
    }

    fn report(&self) -> Result<Vec<String>> {
        let (index, count) = self.processes;
        Ok(vec![format!("process {index} of {count}, joined by MPI")])
    }

    fn collectives(&self) -> Option<Collectives> {
        let (mut count, mut bytes, mut nanoseconds) = (0, 0, 0);
        // SAFETY: the pointers are valid for the call.
        unsafe { (self.client.functions.totals)(&mut count, &mut bytes, &mut nanoseconds) };
        Some(Collectives {
            count,
            bytes,
            time: Duration::from_nanos(nanoseconds),
        })
    }

    fn compile(&self, hlo: &[u8], _replicas: usize) -> Result<Box<dyn Executable>> {
        let client = Arc::clone(&self.client);
        let free = client.functions.free_executable;
        let mut raw = ptr::null_mut();
        // SAFETY: the bytes and the pointer are valid for the call.
        check(unsafe {
            (client.functions.compile)(client.raw, hlo.as_ptr(), hlo.len(), &mut raw)
        })?;
        Ok(Box::new(MpiExecutable(Owned { client, raw, free })))
    }

    fn upload(
        &self,
        values: Values<'_>,
        dims: &[usize],
        device: usize,
    ) -> Result<Box<dyn DeviceArray>> {
        ensure!(device == 0, "there is no device {device}, only one");
        let (kind, data, len): (c_int, *const c_void, usize) = match &values {
            Values::F32(values) => (F32, values.as_ptr().cast(), values.len()),
            Values::I32(values) => (S32, values.as_ptr().cast(), values.len()),
            Values::Bf16(values) => (BF16, values.as_ptr().cast::<bf16>().cast(), values.len()),
            Values::Shared(values) => (F32, values.as_ptr().cast(), values.len()),
        };
        let expected: usize = dims.iter().product();
        ensure!(
            len == expected,
            "an array of {dims:?}: expected {expected} values, got {len}"
        );
        let dims: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
        let client = &self.client;
        let mut raw = ptr::null_mut();
        // SAFETY: there are as many values as the dimensions say, and XLA is done with them when the call returns.
        check(unsafe {
            let upload = client.functions.upload;
            upload(client.raw, kind, dims.as_ptr(), dims.len(), data, &mut raw)
        })?;
        Ok(Box::new(MpiArray::new(client, raw)))
    }
}

/// An executable or a buffer of a client.
struct Owned {
    client: Arc<Client>,
    raw: *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
}

// SAFETY: as for [`Client`].
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the library made it, to be freed by this function, and nobody else has it.
        unsafe { (self.free)(self.raw) }
    }
}

struct MpiExecutable(Owned);

impl Executable for MpiExecutable {
    fn run(&self, inputs: &[Vec<&dyn DeviceArray>]) -> Result<Vec<Vec<Box<dyn DeviceArray>>>> {
        let inputs = own::<MpiArray>(inputs)?;
        let [inputs] = inputs.as_slice() else {
            anyhow::bail!("expected the inputs of one replica, got {}", inputs.len());
        };
        let inputs: Vec<*mut c_void> = inputs.iter().map(|array| array.0.raw).collect();
        let (mut outputs, mut count) = (ptr::null_mut(), 0);
        let executable = &self.0;
        // SAFETY: the inputs are buffers of this client, and all pointers are valid for the call.
        check(unsafe {
            let run = executable.client.functions.run;
            run(
                executable.raw,
                inputs.as_ptr(),
                inputs.len(),
                &mut outputs,
                &mut count,
            )
        })?;
        // SAFETY: the library returned an array of so many buffers, for the caller to keep, and the array to free.
        let arrays = unsafe {
            let arrays = std::slice::from_raw_parts(outputs, count).to_vec();
            libc::free(outputs.cast());
            arrays
        };
        let array = |raw| MpiArray::new(&executable.client, raw);
        Ok(boxed(vec![arrays.into_iter().map(array).collect()]))
    }
}

struct MpiArray(Owned);

impl MpiArray {
    /// The buffer `raw`, which the library made for `client`.
    fn new(client: &Arc<Client>, raw: *mut c_void) -> Self {
        Self(Owned {
            client: Arc::clone(client),
            raw,
            free: client.functions.free_buffer,
        })
    }
}

impl DeviceArray for MpiArray {
    fn wait(&self) -> Result<()> {
        // SAFETY: the buffer is there as long as this is.
        check(unsafe { (self.0.client.functions.wait)(self.0.raw) })
    }

    fn to_f32(&self) -> Result<Vec<f32>> {
        let Owned { client, raw, .. } = &self.0;
        let functions = client.functions;
        let mut count = 0;
        // SAFETY: the buffer is there as long as this is, and the pointer is valid for the call.
        check(unsafe { (functions.count)(*raw, &mut count) })?;
        let mut values = vec![0.0; count];
        // SAFETY: there is room for as many values.
        check(unsafe { (functions.read)(*raw, values.as_mut_ptr(), count) })?;
        Ok(values)
    }
}
