//! The fence around loading the program's library.

use std::convert::Infallible;
use std::path::Path;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY};

/// The library's only function for others; see `src/cli/entry.rs`.
const MAIN: &[u8] = b"resnet_xla_main\0";

/// Runs the program in the library at `path`, which ends the process; returns only with the reason why it cannot be
/// loaded.
pub fn run(path: &Path) -> String {
    let Err(reason) = load_and_call(path);
    reason.to_string()
}

fn load_and_call(path: &Path) -> Result<Infallible, libloading::Error> {
    // Both as if this program were linked with the library: XLA finds functions among the process's global symbols, and to
    // look up all of its symbols at once would take a quarter of a second.
    // SAFETY: the library is the one built with this program. What its and the runtime's libraries do when they are
    // loaded needs nothing but a process with one thread, which this is.
    let library = unsafe { Library::open(Some(path), RTLD_LAZY | RTLD_GLOBAL) }?;
    // SAFETY: the function has this type, and the library stays loaded for as long as the process lives.
    let main = unsafe { library.get::<extern "C" fn() -> !>(MAIN) }?;
    main()
}
