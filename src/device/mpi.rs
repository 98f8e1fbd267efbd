//! The CPUs of several processes, joined by MPI: the library that `./setup mpi` makes (`xla_mpi/`).
//!
//! The library is loaded only where several processes are asked for. This module is the fence around its C interface.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::Write;
use std::path::PathBuf;
use std::ptr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use half::bf16;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::device::backend::{Backend, Collectives, DeviceArray, Executable, Values, boxed, own};
use crate::device::error::DeviceError;
use crate::device::heartbeat::{self, Heartbeat};
use crate::device::leave::{End, LINGERING};
use crate::device::processes::Processes;
use crate::device::runtime;
use crate::system::{proc, watch};

/// XLA's numbers of element types.
const S32: c_int = 4;
const F32: c_int = 11;
const BF16: c_int = 16;

/// Bytes that each process tells when they join.
const GATHERED: usize = 128;

/// A null pointer, or a message to be freed.
type Answer = *mut c_char;

/// Declares the functions of the library: a field for each, which has the symbol's name without `xla_mpi_`.
macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            /// # Safety
            /// `library` is the one that `xla_mpi/` was made into, and is never unloaded.
            unsafe fn of(library: &Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    // SAFETY: the types are those in `xla_mpi/`.
                    $($name: unsafe {
                        *library.get(concat!("xla_mpi_", stringify!($name), "\0").as_bytes())?
                    },)*
                })
            }
        }
    };
}

functions! {
    join: fn(*mut c_int, *mut c_int) -> Answer;
    gather: fn(*const u8, c_int, *mut u8) -> Answer;
    meet: fn();
    part: fn();
    abort: fn(c_int);
    open_beats: fn(*mut c_int) -> Answer;
    beat: fn(*mut u64, *mut c_int);
    totals: fn(*mut u64, *mut u64, *mut u64);
    open: fn(c_int, c_int, *mut *mut c_void) -> Answer;
    close: fn(*mut c_void);
    compile: fn(*mut c_void, *const u8, usize, *mut *mut c_void) -> Answer;
    free_executable: fn(*mut c_void);
    upload: fn(*mut c_void, c_int, *const i64, usize, *const c_void, *mut *mut c_void) -> Answer;
    free_buffer: fn(*mut c_void);
    run: fn(*mut c_void, *const *mut c_void, usize, *mut *mut *mut c_void, *mut usize) -> Answer;
    wait: fn(*mut c_void) -> Answer;
    count: fn(*mut c_void, *mut usize) -> Answer;
    read: fn(*mut c_void, *mut f32, usize) -> Answer;
}

impl Functions {
    /// Ends all processes with this exit code.
    fn end_all(&self, code: u8) {
        // SAFETY: MPI was initialised, and this process ends after this.
        unsafe { (self.abort)(code.into()) }
    }
}

/// From the message of one that hangs until this process ends all: each of the others has its own message to write.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long an MPI that cannot reach its launcher may wait for it.
const TO_END_ALL: Duration = Duration::from_millis(500);

const _: () = assert!(
    heartbeat::NOTICED.as_millis() + LAST_WORDS.as_millis() + TO_END_ALL.as_millis()
        < heartbeat::PROMISED.as_millis()
);

/// Set once this process has joined the others. A process can do so once, and only the end of the process undoes it.
static JOINED: OnceLock<Functions> = OnceLock::new();

/// What notices others that hang, and lets them notice this process.
static HEARTBEAT: Mutex<Option<Heartbeat>> = Mutex::new(None);

/// Turns the answer of a function of the library into an error.
fn check(answer: Answer) -> Result<()> {
    if answer.is_null() {
        return Ok(());
    }
    // SAFETY: the library returned this text, which ends with a zero, for the caller to free.
    let text = unsafe {
        let text = CStr::from_ptr(answer).to_string_lossy().into_owned();
        libc::free(answer.cast());
        text
    };
    // XLA adds where in its source it happened.
    anyhow::bail!("{}", text.lines().next().unwrap_or_default().to_owned())
}

/// Where `./setup mpi` puts the library: beside the runtime that it was made for.
pub fn library_path() -> Option<PathBuf> {
    let runtime = runtime::library()?;
    Some(runtime.parent()?.parent()?.join("mpi/libxla_mpi.so"))
}

/// Joins the processes that MPI's launcher started with this one.
///
/// # Errors
/// There is no library; it is made for another MPI; MPI knows of others than `processes` says.
pub fn join(processes: &Processes) -> Result<(), DeviceError> {
    join_by(library_path(), processes)
}

/// [`join`] by the library at this path, if it is there.
fn join_by(library: Option<PathBuf>, processes: &Processes) -> Result<(), DeviceError> {
    let library = library.filter(|path| path.is_file());
    let library = library.ok_or_else(|| DeviceError::NoMpi {
        count: processes.count,
        said_by: processes.source.clone(),
    })?;
    let unusable = |reason: String| DeviceError::Mpi {
        path: library.clone(),
        reason,
    };
    // Before the others wait for this process.
    let limit = heartbeat::limit()?;
    // MPI's own plugins look for its functions among the global symbols.
    // SAFETY: the library is the one that setup made for this runtime; its initialisers need nothing.
    let loaded = unsafe { Library::open(Some(&library), RTLD_NOW | RTLD_GLOBAL) };
    let loaded = loaded.map_err(|error| unusable(error.to_string()))?;
    // It stays loaded: MPI has threads and handlers in it.
    let loaded: &'static Library = Box::leak(Box::new(loaded));
    // SAFETY: as above.
    let functions =
        unsafe { Functions::of(loaded) }.map_err(|error| unusable(error.to_string()))?;
    let (mut index, mut count) = (0, 0);
    // SAFETY: both pointers are valid for the call, which is the first of MPI in this process.
    let joined = unsafe { (functions.join)(&mut index, &mut count) };
    // From here on an end without a word would leave the others waiting.
    let _ = JOINED.set(functions);
    check(joined).map_err(|error| unusable(error.to_string()))?;
    if (index as usize, count as usize) != (processes.index, processes.count) {
        return Err(DeviceError::OtherMpi {
            said: format!("process {} of {}", processes.index, processes.count),
            said_by: processes.source.clone(),
            mpi: format!("process {index} of {count}"),
        });
    }
    watch_others(processes, limit).map_err(|error| unusable(error.to_string()))
}

/// Ends this process when another has died, or gives no sign of life for `limit`.
fn watch_others(processes: &Processes, limit: Duration) -> Result<()> {
    let functions = JOINED.get().context("MPI was not joined")?;
    let places = gather(watch::own_place(), processes.count)?;
    watch::start(&places, processes.index);
    let host = proc::hostname().unwrap_or_else(|| "a machine without a name".to_owned());
    let hosts = gather(host, processes.count)?;
    let mut can_beat = 0;
    // SAFETY: the pointer is valid for the call.
    check(unsafe { (functions.open_beats)(&mut can_beat) })?;
    if can_beat == 0 {
        log::warn!(
            "this MPI cannot be called from two threads at once, so a process that hangs is not noticed"
        );
        return Ok(());
    }
    let beat = |heard: &mut [u64]| {
        let mut waits = 0;
        // SAFETY: there is a number for each process, and only one thread beats.
        unsafe { (functions.beat)(heard.as_mut_ptr(), &mut waits) };
        waits != 0
    };
    let own = processes.index;
    let lost = move |silent: &str| {
        // If stderr is closed, there is nowhere to report.
        let _ = writeln!(
            std::io::stderr(),
            "error: {silent}, so process {own} ends too; what was saved is intact, go on with --resume"
        );
        thread::sleep(LAST_WORDS);
        end_all();
    };
    let heartbeat = Heartbeat::start(beat, own, hosts, limit, lost);
    *HEARTBEAT.lock().unwrap_or_else(PoisonError::into_inner) = Some(heartbeat?);
    Ok(())
}

/// Ends all processes, of which one hangs.
fn end_all() {
    let in_any_case = thread::Builder::new().spawn(move || {
        thread::sleep(TO_END_ALL);
        watch::end()
    });
    match (in_any_case, JOINED.get()) {
        (Ok(_), Some(functions)) => {
            // From here on the others may end.
            watch::stop();
            functions.end_all(watch::FAILED)
        }
        _ => watch::end(),
    }
}

/// What each of `count` processes gives as `own`, which is cut at [`GATHERED`] bytes.
fn gather(own: String, count: usize) -> Result<Vec<String>> {
    let functions = JOINED.get().context("MPI was not joined")?;
    let mut padded = own.into_bytes();
    padded.resize(GATHERED, 0);
    let mut all = vec![0; GATHERED * count];
    // SAFETY: there is room for as many bytes of each process.
    check(unsafe { (functions.gather)(padded.as_ptr(), GATHERED as c_int, all.as_mut_ptr()) })?;
    let texts = all.chunks_exact(GATHERED).map(String::from_utf8_lossy);
    Ok(texts
        .map(|text| text.trim_end_matches('\0').to_owned())
        .collect())
}

/// Parts from the other processes, where this one has joined any: once all of them have come to an end, or else by ending
/// them all with its exit code.
pub fn leave(end: End) {
    let Some(functions) = JOINED.get() else {
        return;
    };
    // From here on the others may end.
    watch::stop();
    match end {
        // SAFETY: MPI was initialised.
        End::Agreed => unsafe { (functions.meet)() },
        End::Alone { code, .. } => {
            if !others_end_too(functions) {
                return functions.end_all(code);
            }
        }
    }
    stop_heartbeat();
    // SAFETY: all processes are here, no call of MPI is under way, and none follows.
    unsafe { (functions.part)() }
}

/// Waits a moment for all others to end too, each by itself, as they do where all find the same error. Waits no longer once
/// one of them waits for this process.
fn others_end_too(functions: &'static Functions) -> bool {
    const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
    let heartbeat = HEARTBEAT.lock().unwrap_or_else(PoisonError::into_inner);
    // Without one, this MPI cannot be called from two threads at once.
    let Some(heartbeat) = heartbeat.as_ref() else {
        return false;
    };
    heartbeat.leave();
    let (met, all_here) = mpsc::channel();
    let meeting = thread::Builder::new().spawn(move || {
        // SAFETY: MPI was initialised.
        unsafe { (functions.meet)() };
        // If nobody listens any more, all processes are being ended.
        let _ = met.send(());
    });
    let until = Instant::now() + LINGERING;
    while meeting.is_ok() && !heartbeat.is_waited_for() && Instant::now() < until {
        if all_here.recv_timeout(BETWEEN_LOOKS).is_ok() {
            return true;
        }
    }
    false
}

fn stop_heartbeat() {
    let mut heartbeat = HEARTBEAT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(heartbeat) = heartbeat.take() {
        heartbeat.stop();
    }
}

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
    /// Opens this process's device, after [`join`].
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
        let mut raw = ptr::null_mut();
        // SAFETY: the bytes and the pointer are valid for the call.
        check(unsafe {
            (client.functions.compile)(client.raw, hlo.as_ptr(), hlo.len(), &mut raw)
        })?;
        Ok(Box::new(MpiExecutable { client, raw }))
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
        let client = Arc::clone(&self.client);
        let mut raw = ptr::null_mut();
        // SAFETY: there are as many values as the dimensions say, and XLA is done with them when the call returns.
        check(unsafe {
            let upload = client.functions.upload;
            upload(client.raw, kind, dims.as_ptr(), dims.len(), data, &mut raw)
        })?;
        Ok(Box::new(MpiArray { client, raw }))
    }
}

struct MpiExecutable {
    client: Arc<Client>,
    raw: *mut c_void,
}

// SAFETY: as for [`Client`].
unsafe impl Send for MpiExecutable {}
// SAFETY: as above.
unsafe impl Sync for MpiExecutable {}

impl Drop for MpiExecutable {
    fn drop(&mut self) {
        // SAFETY: the library made it, and nobody else has it.
        unsafe { (self.client.functions.free_executable)(self.raw) }
    }
}

impl Executable for MpiExecutable {
    fn run(&self, inputs: &[Vec<&dyn DeviceArray>]) -> Result<Vec<Vec<Box<dyn DeviceArray>>>> {
        let inputs = own::<MpiArray>(inputs)?;
        let [inputs] = inputs.as_slice() else {
            anyhow::bail!("expected the inputs of one replica, got {}", inputs.len());
        };
        let inputs: Vec<*mut c_void> = inputs.iter().map(|array| array.raw).collect();
        let (mut outputs, mut count) = (ptr::null_mut(), 0);
        // SAFETY: the inputs are buffers of this client, and all pointers are valid for the call.
        check(unsafe {
            let run = self.client.functions.run;
            run(
                self.raw,
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
        let array = |raw| MpiArray {
            client: Arc::clone(&self.client),
            raw,
        };
        Ok(boxed(vec![arrays.into_iter().map(array).collect()]))
    }
}

struct MpiArray {
    client: Arc<Client>,
    raw: *mut c_void,
}

// SAFETY: as for [`Client`].
unsafe impl Send for MpiArray {}
// SAFETY: as above.
unsafe impl Sync for MpiArray {}

impl Drop for MpiArray {
    fn drop(&mut self) {
        // SAFETY: the library made it, and nobody else has it.
        unsafe { (self.client.functions.free_buffer)(self.raw) }
    }
}

impl DeviceArray for MpiArray {
    fn wait(&self) -> Result<()> {
        // SAFETY: the buffer is there as long as this is.
        check(unsafe { (self.client.functions.wait)(self.raw) })
    }

    fn to_f32(&self) -> Result<Vec<f32>> {
        let functions = self.client.functions;
        let mut count = 0;
        // SAFETY: the buffer is there as long as this is, and the pointer is valid for the call.
        check(unsafe { (functions.count)(self.raw, &mut count) })?;
        let mut values = vec![0.0; count];
        // SAFETY: there is room for as many values.
        check(unsafe { (functions.read)(self.raw, values.as_mut_ptr(), count) })?;
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::processes::Launcher;

    #[test]
    fn a_library_that_is_missing_or_is_another_says_what_to_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libxla_mpi.so");
        let two = Processes {
            index: 0,
            count: 2,
            launcher: Launcher::Slurm,
            source: "Slurm".to_owned(),
        };
        let fault = |path: Option<PathBuf>| join_by(path, &two).unwrap_err().to_string();
        for path in [None, Some(path.clone())] {
            let fault = fault(path);
            assert!(
                fault.starts_with("there are 2 processes (Slurm)"),
                "{fault}"
            );
            assert!(fault.contains("Run `./setup mpi`"), "{fault}");
        }
        std::fs::write(&path, "no library").unwrap();
        let fault = fault(Some(path));
        assert!(fault.contains("cannot be used"), "{fault}");
        assert!(fault.contains("./setup mpi"), "{fault}");
    }
}
