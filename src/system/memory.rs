//! Keeps freed memory in the process.
//!
//! XLA's CPU backend takes gigabytes of temporaries with `malloc` for every step and frees them
//! after it. By default glibc gives blocks that large back to the kernel at once, so that every step
//! faults all its pages in again; that was the largest single cost of a step on a CPU.
//!
//! A plugin allocates on threads of its own, for which glibc has other heaps, of 64 MiB at most: larger blocks come from the
//! kernel and go back to it whatever the settings are. So all threads share the first heap.

/// Makes the C allocator serve large blocks of all threads from one heap and keep them there.
///
/// Call it before the first thread starts. Only glibc has these settings; elsewhere it does nothing.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: mallopt only sets parameters of the allocator, which it locks; all values are ones
        // that glibc documents, and -1 is "never": the largest number would still be only 2 GiB.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        }
    }
}
