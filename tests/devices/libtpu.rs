//! The real libtpu, on a machine without a TPU.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use resnet_xla::device::plugin_kind::PluginKind;

use crate::program::plugins::{has_hardware, libtpu};
use crate::program::{program, text};
use crate::{device_error, doctor};

/// libtpu has one lock file for the whole machine.
static LIBTPU: Mutex<()> = Mutex::new(());

#[test]
fn libtpu_is_not_loaded_where_it_would_ask_a_metadata_server() {
    if has_hardware(&PluginKind::Tpu) {
        return;
    }
    let mut command = program(&["doctor", "--plugin", "/no/such/libtpu.so"]);
    command.env_remove("TPU_SKIP_MDS_QUERY");
    let message = device_error(&mut command);
    assert!(message.contains("no TPU on this machine"), "{message}");
}

#[test]
fn libtpu_says_itself_that_there_is_no_tpu() {
    if has_hardware(&PluginKind::Tpu) {
        return;
    }
    let Some(plugin) = libtpu() else { return };
    let _alone = LIBTPU.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = doctor(&["--plugin", text(&plugin)]);
    // Beside whatever else on this machine has loaded it.
    command.env("ALLOW_MULTIPLE_LIBTPU_LOAD", "1");
    let message = device_error(&mut command);
    assert!(message.contains("cannot be used"), "{message}");
    assert!(message.contains("No jellyfish device found"), "{message}");
}

#[test]
fn the_process_that_holds_the_tpu_is_named() {
    let Some(plugin) = libtpu() else { return };
    let _alone = LIBTPU.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut holder) = hold_lock() else {
        return;
    };
    let message = device_error(&mut doctor(&["--plugin", text(&plugin)]));
    let expected = format!("pid {} (python3", holder.id());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(
        message.contains("the TPU is held by another process"),
        "{message}"
    );
    assert!(message.contains(&expected), "no `{expected}` in {message}");
}

/// A process that locks what libtpu locks, as a training run elsewhere would, until this one ends it or ends itself;
/// `None`, with the reason printed, where another user's lock file is in the way.
fn hold_lock() -> Option<Child> {
    const LOCK: &str = "import fcntl, sys\n\
        file = open('/tmp/libtpu_lockfile', 'a')\n\
        fcntl.lockf(file, fcntl.LOCK_EX)\n\
        print('locked', flush=True)\n\
        sys.stdin.read()";
    // As Python opens it: a system may let root open another user's file, but not with leave to create it.
    let mut options = File::options();
    let lock_file = options
        .append(true)
        .create(true)
        .open("/tmp/libtpu_lockfile");
    if let Err(error) = lock_file
        && error.kind() == ErrorKind::PermissionDenied
    {
        println!("skipped: libtpu's lock file belongs to another user: {error}");
        return None;
    }
    let mut holder = Command::new("python3")
        .args(["-c", LOCK])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = holder.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "locked\n");
    Some(holder)
}
