//! Loads the program's library.

use std::convert::Infallible;
use std::path::Path;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY};

/// The only function that the library exports; see `src/cli/entry.rs`.
const MAIN: &[u8] = b"resnet_xla_main\0";

/// Runs the program in the library at `path`, which ends the process. Returns only if the library cannot be loaded,
/// with the reason.
pub fn run(path: &Path) -> String {
    let Err(reason) = load_and_call(path);
    reason.to_string()
}

fn load_and_call(path: &Path) -> Result<Infallible, libloading::Error> {
    // With both flags, it is as if this program were linked with the library: XLA looks up functions among the
    // process's global symbols, and resolving all symbols at once would take a quarter of a second.
    // SAFETY: the library is the one built with this program. The initialisers of this library and of the runtime's
    // libraries need only a process with a single thread, which this is.
    let library = unsafe { Library::open(Some(path), RTLD_LAZY | RTLD_GLOBAL) }?;
    // SAFETY: the function has this type, and the library stays loaded until the process ends.
    let main = unsafe { library.get::<extern "C" fn() -> !>(MAIN) }?;
    main()
}
