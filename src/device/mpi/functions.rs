//! The C interface of the library: its functions, and what they answer.

use std::ffi::{CStr, c_char, c_int, c_void};

use anyhow::Result;
use libloading::os::unix::Library;

/// A null pointer, or a message to be freed.
pub type Answer = *mut c_char;

/// Declares the functions of the library: a field for each, which has the symbol's name without `xla_mpi_`.
macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        pub struct Functions {
            $(pub $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            /// # Safety
            /// `library` is the one that `xla_mpi/` was made into, and is never unloaded.
            pub unsafe fn of(library: &Library) -> Result<Self, libloading::Error> {
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
    pub fn end_all(&self, code: u8) {
        // SAFETY: MPI was initialised, and this process ends after this.
        unsafe { (self.abort)(code.into()) }
    }
}

/// Turns the answer of a function of the library into an error.
pub fn check(answer: Answer) -> Result<()> {
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
