//! The XLA runtime's own CPU: compiles programs, keeps and loads compiled ones, runs them.
//!
//! `client.cc` calls XLA's C++ interface, because neither the `xla` crate nor the runtime's C interface has a way to keep
//! what was compiled for the runtime's CPU. This module is the fence around it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::slice;
use std::sync::Arc;

use half::bf16;

/// What XLA says went wrong, or what the caller did.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    #[error("{0}")]
    Xla(String),
    #[error("there is no device {device}, only {there}")]
    Device { device: usize, there: usize },
    #[error("{got} values for an array of dimensions {dims:?}")]
    Count { got: usize, dims: Vec<usize> },
    #[error("the replicas get {0:?} arrays; expected as many for each, and at least one replica")]
    Arguments(Vec<usize>),
    #[error("an array of another client")]
    OtherClient,
    #[error("the array has elements of XLA's type {got}; expected type {expected}")]
    Type { got: i32, expected: i32 },
}

pub type Result<T> = std::result::Result<T, CpuError>;

/// An object of XLA's.
#[repr(C)]
struct Opaque<T> {
    _private: [u8; 0],
    _kind: PhantomData<T>,
}
enum ClientKind {}
enum ExecutableKind {}
enum BufferKind {}
type RawClient = Opaque<ClientKind>;
type RawExecutable = Opaque<ExecutableKind>;
type RawBuffer = Opaque<BufferKind>;
/// Null, or an error to be freed.
type Message = *mut c_char;

unsafe extern "C" {
    fn cpu_client_free(memory: *mut c_void);
    fn cpu_client_close(client: *mut RawClient);
    fn cpu_client_delete_executable(executable: *mut RawExecutable);
    fn cpu_client_delete_buffer(buffer: *mut RawBuffer);
    fn cpu_client_open(out: *mut *mut RawClient) -> Message;
    fn cpu_client_devices(client: *const RawClient) -> usize;
    fn cpu_client_device_name(client: *const RawClient, device: usize) -> *mut c_char;
    fn cpu_client_compile(
        client: *mut RawClient,
        hlo: *const c_char,
        size: usize,
        replicas: usize,
        out: *mut *mut RawExecutable,
    ) -> Message;
    fn cpu_client_load(
        client: *mut RawClient,
        bytes: *const c_char,
        size: usize,
        replicas: usize,
        out: *mut *mut RawExecutable,
    ) -> Message;
    fn cpu_client_serialize(
        executable: *const RawExecutable,
        bytes: *mut *mut c_char,
        size: *mut usize,
    ) -> Message;
    fn cpu_client_run(
        executable: *mut RawExecutable,
        arguments: *const *mut RawBuffer,
        count: usize,
        replicas: usize,
        outputs: *mut *mut *mut RawBuffer,
        output_count: *mut usize,
    ) -> Message;
    fn cpu_client_upload(
        client: *mut RawClient,
        device: usize,
        element_type: c_int,
        dims: *const i64,
        rank: usize,
        values: *const c_void,
        out: *mut *mut RawBuffer,
    ) -> Message;
    fn cpu_client_wait(buffer: *mut RawBuffer) -> Message;
    fn cpu_client_type(buffer: *const RawBuffer) -> c_int;
    fn cpu_client_elements(buffer: *const RawBuffer) -> usize;
    fn cpu_client_read(buffer: *mut RawBuffer, to: *mut c_void, size: usize) -> Message;
}

/// Turns a message into an error, and frees it.
fn check(message: Message) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a message is a C string, and nobody else has it.
    let text = unsafe { take_text(message) };
    // What follows the first line says where in XLA.
    Err(CpuError::Xla(
        text.lines().next().unwrap_or_default().to_owned(),
    ))
}

/// Copies and frees a C string.
///
/// # Safety
/// `text` is a C string that `client.cc` gave and nobody has freed.
unsafe fn take_text(text: *mut c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        cpu_client_free(text.cast());
        copy
    }
}

/// A type of elements that arrays on the host can have.
///
/// # Safety
/// [`Self::TYPE`] is the number of an `xla::PrimitiveType` of the size and the bits of `Self`.
pub unsafe trait Element: Copy {
    const TYPE: i32;
}

// SAFETY: S32 of xla_data.proto.
unsafe impl Element for i32 {
    const TYPE: i32 = 4;
}
// SAFETY: F32 of xla_data.proto.
unsafe impl Element for f32 {
    const TYPE: i32 = 11;
}
// SAFETY: BF16 of xla_data.proto.
unsafe impl Element for bf16 {
    const TYPE: i32 = 16;
}

/// The CPU, as one device or several. It stays open while anything of it is alive.
#[derive(Clone)]
pub struct Client {
    opened: Arc<Opened>,
}

struct Opened {
    raw: *mut RawClient,
}

// SAFETY: XLA's clients, programs and arrays may be used from any thread.
unsafe impl Send for Opened {}
// SAFETY: as above.
unsafe impl Sync for Opened {}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: programs and arrays keep their client open, so this is the last that names it.
        unsafe { cpu_client_close(self.raw) };
    }
}

impl Client {
    /// Opens the CPU as as many devices as `XLA_FLAGS` say.
    pub fn open() -> Result<Self> {
        let mut raw = ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        check(unsafe { cpu_client_open(&mut raw) })?;
        Ok(Self {
            opened: Arc::new(Opened { raw }),
        })
    }

    /// The number of devices.
    pub fn devices(&self) -> usize {
        // SAFETY: the client is open.
        unsafe { cpu_client_devices(self.opened.raw) }
    }

    /// The name of a device for people.
    pub fn device_name(&self, device: usize) -> Result<String> {
        self.check_device(device)?;
        // SAFETY: the client is open and has the device; the text is the caller's.
        Ok(unsafe { take_text(cpu_client_device_name(self.opened.raw, device)) })
    }

    fn check_device(&self, device: usize) -> Result<()> {
        let there = self.devices();
        match device < there {
            true => Ok(()),
            false => Err(CpuError::Device { device, there }),
        }
    }

    /// Compiles `hlo`, a serialised `HloModuleProto`, for the first `replicas` devices.
    pub fn compile(&self, hlo: &[u8], replicas: usize) -> Result<Executable> {
        let mut raw = ptr::null_mut();
        let (bytes, size) = (hlo.as_ptr().cast(), hlo.len());
        // SAFETY: the client is open, and the pointers are valid for the call.
        check(unsafe { cpu_client_compile(self.opened.raw, bytes, size, replicas, &mut raw) })?;
        Ok(self.executable(raw))
    }

    /// Loads what [`Executable::serialize`] gave, for the first `replicas` devices, as many as it was compiled for.
    ///
    /// XLA believes what it loads: the bytes must be those that were given, by the same version of the runtime on a
    /// processor with the same features.
    pub fn load(&self, serialized: &[u8], replicas: usize) -> Result<Executable> {
        let mut raw = ptr::null_mut();
        let (bytes, size) = (serialized.as_ptr().cast(), serialized.len());
        // SAFETY: as for `compile`.
        check(unsafe { cpu_client_load(self.opened.raw, bytes, size, replicas, &mut raw) })?;
        Ok(self.executable(raw))
    }

    fn executable(&self, raw: *mut RawExecutable) -> Executable {
        Executable {
            raw,
            client: self.clone(),
        }
    }

    /// Copies `values`, row-major, to `device` as an array of dimensions `dims`.
    ///
    /// # Errors
    /// Another number of values than `dims` say; no such device.
    pub fn upload<T: Element>(
        &self,
        values: &[T],
        dims: &[usize],
        device: usize,
    ) -> Result<Buffer> {
        self.check_device(device)?;
        let count = dims
            .iter()
            .try_fold(1usize, |len, &dim| len.checked_mul(dim));
        if count != Some(values.len()) {
            return Err(CpuError::Count {
                got: values.len(),
                dims: dims.to_vec(),
            });
        }
        let dims: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
        let mut raw = ptr::null_mut();
        // SAFETY: the client is open and has the device; there are as many values as the dimensions say, and XLA reads
        // them during the call only.
        check(unsafe {
            cpu_client_upload(
                self.opened.raw,
                device,
                T::TYPE,
                dims.as_ptr(),
                dims.len(),
                values.as_ptr().cast(),
                &mut raw,
            )
        })?;
        Ok(self.buffer(raw))
    }

    fn buffer(&self, raw: *mut RawBuffer) -> Buffer {
        Buffer {
            raw,
            client: self.clone(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.opened, &other.opened)
    }
}

/// A program on its devices, ready to run.
pub struct Executable {
    raw: *mut RawExecutable,
    client: Client,
}

// SAFETY: as for `Opened`.
unsafe impl Send for Executable {}
// SAFETY: as for `Opened`.
unsafe impl Sync for Executable {}

impl Executable {
    /// The compiled program as bytes, for [`Client::load`].
    pub fn serialize(&self) -> Result<Vec<u8>> {
        let (mut bytes, mut size) = (ptr::null_mut(), 0);
        // SAFETY: the program is live, and the pointers are valid for the call.
        check(unsafe { cpu_client_serialize(self.raw, &mut bytes, &mut size) })?;
        // SAFETY: these bytes were given, and nobody else has them.
        let copy = unsafe { slice::from_raw_parts(bytes.cast::<u8>(), size) }.to_vec();
        // SAFETY: as above; they are not used any more.
        unsafe { cpu_client_free(bytes.cast()) };
        Ok(copy)
    }

    /// Runs the program on each of its devices with that device's `arguments`, and returns each one's outputs. An
    /// argument whose place an output takes can no longer be read.
    ///
    /// # Errors
    /// Lists for another number of devices, or of different lengths; an array of another client; what XLA says against
    /// the arguments.
    pub fn run(&self, arguments: &[Vec<&Buffer>]) -> Result<Vec<Vec<Buffer>>> {
        let count = arguments.first().map_or(0, Vec::len);
        if arguments.is_empty() || arguments.iter().any(|list| list.len() != count) {
            let lengths = arguments.iter().map(Vec::len).collect();
            return Err(CpuError::Arguments(lengths));
        }
        let mut buffers = arguments.iter().flatten();
        if !buffers.all(|buffer| buffer.client.is(&self.client)) {
            return Err(CpuError::OtherClient);
        }
        let replicas = arguments.len();
        let raw: Vec<_> = arguments.iter().flatten().map(|b| b.raw).collect();
        let (mut outputs, mut per_replica) = (ptr::null_mut(), 0);
        // SAFETY: the program and the arrays are live, there are `count` arrays for each replica, and the pointers are
        // valid for the call.
        check(unsafe {
            cpu_client_run(
                self.raw,
                raw.as_ptr(),
                count,
                replicas,
                &mut outputs,
                &mut per_replica,
            )
        })?;
        // SAFETY: so many arrays were given, each for whoever takes it.
        let raw = unsafe { slice::from_raw_parts(outputs, replicas * per_replica) }.to_vec();
        // SAFETY: the list was given too; it is not used any more.
        unsafe { cpu_client_free(outputs.cast()) };
        let mut buffers = raw.into_iter().map(|raw| self.client.buffer(raw));
        Ok((0..replicas)
            .map(|_| buffers.by_ref().take(per_replica).collect())
            .collect())
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: nobody names it afterwards, and its client is still open.
        unsafe { cpu_client_delete_executable(self.raw) };
    }
}

/// An array on a device.
pub struct Buffer {
    raw: *mut RawBuffer,
    client: Client,
}

// SAFETY: as for `Opened`.
unsafe impl Send for Buffer {}
// SAFETY: as for `Opened`.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Waits until the array is there.
    pub fn wait(&self) -> Result<()> {
        // SAFETY: the array is live.
        check(unsafe { cpu_client_wait(self.raw) })
    }

    /// Waits until the array is there and copies it to the host, row-major.
    ///
    /// # Errors
    /// Elements of another type; an array whose place another has taken; whatever went wrong on the way to these values.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        // SAFETY: the array is live.
        let (got, elements) = unsafe { (cpu_client_type(self.raw), cpu_client_elements(self.raw)) };
        if got != f32::TYPE {
            let expected = f32::TYPE;
            return Err(CpuError::Type { got, expected });
        }
        let mut values = vec![0f32; elements];
        let size = size_of_val(values.as_slice());
        // SAFETY: the array is live, and there is room for all of it.
        check(unsafe { cpu_client_read(self.raw, values.as_mut_ptr().cast(), size) })?;
        Ok(values)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: nobody names it afterwards, and its client is still open.
        unsafe { cpu_client_delete_buffer(self.raw) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x + y of two arrays of three values, as a serialised `HloModuleProto`.
    fn sum() -> Vec<u8> {
        let builder = xla::XlaBuilder::new("sum");
        let x = builder
            .parameter(0, xla::ElementType::F32, &[3], "x")
            .unwrap();
        let y = builder
            .parameter(1, xla::ElementType::F32, &[3], "y")
            .unwrap();
        let sum = x.add_(&y).unwrap().build().unwrap();
        sum.proto().to_bytes().unwrap()
    }

    #[test]
    fn a_program_that_was_kept_and_loaded_computes_what_it_did() {
        let client = Client::open().unwrap();
        let compiled = client.compile(&sum(), 1).unwrap();
        let kept = compiled.serialize().unwrap();
        let loaded = client.load(&kept, 1).unwrap();
        let x = client.upload(&[1f32, 2.0, 3.0], &[3], 0).unwrap();
        let y = client.upload(&[0.5f32, 0.25, 0.125], &[3], 0).unwrap();
        for executable in [compiled, loaded] {
            let outputs = executable.run(&[vec![&x, &y]]).unwrap();
            outputs[0][0].wait().unwrap();
            assert_eq!(outputs[0][0].to_f32().unwrap(), [1.5, 2.25, 3.125]);
        }
        assert!(client.load(b"nonsense", 1).is_err());
        assert!(client.compile(b"nonsense", 1).is_err());
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let client = Client::open().unwrap();
        let there = client.devices();
        assert!(client.device_name(0).unwrap().contains('0'));
        assert!(client.device_name(there).is_err());
        assert!(client.upload(&[1f32], &[1], there).is_err());
        assert!(client.upload(&[1f32, 2.0], &[3], 0).is_err());
        let count = client.upload(&[1i32], &[1], 0).unwrap();
        assert!(matches!(count.to_f32(), Err(CpuError::Type { got: 4, .. })));
        let executable = client.compile(&sum(), 1).unwrap();
        let x = client.upload(&[1f32, 2.0, 3.0], &[3], 0).unwrap();
        assert!(executable.run(&[]).is_err());
        assert!(executable.run(&[vec![&x]]).is_err());
        assert!(client.compile(&sum(), there + 1).is_err());
        let other = Client::open().unwrap();
        let theirs = other.upload(&[1f32, 2.0, 3.0], &[3], 0).unwrap();
        let mixed = executable.run(&[vec![&x, &theirs]]);
        assert!(matches!(mixed, Err(CpuError::OtherClient)));
    }
}
