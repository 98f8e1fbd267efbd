//! The CPUs of several processes, joined by MPI: the library that `./setup mpi` makes (`xla_mpi/`).
//!
//! The library is loaded only where several processes are asked for. This module is the fence around its C interface.
//!
//! ```text
//!  join, watch, leave ─┐
//!                      ├─► functions ─► libxla_mpi.so
//!  client ─────────────┘
//! ```

mod client;
mod functions;

use std::ffi::c_int;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::device::error::DeviceError;
use crate::device::heartbeat::{self, Heartbeat};
use crate::device::leave::{End, LINGERING};
use crate::device::processes::Processes;
use crate::device::runtime;
use crate::system::{proc, watch};

pub use client::MpiCpu;
use functions::{Functions, check};

/// Bytes that each process tells when they join.
const GATHERED: usize = 128;

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
