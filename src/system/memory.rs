//! Keeps freed memory in the process.
//!
//! XLA's CPU backend takes gigabytes of temporaries with `malloc` for every step and frees them
//! after it. By default glibc gives blocks that large back to the kernel at once, so that every step
//! faults all its pages in again; that was the largest single cost of a step on a CPU.

/// Makes the C allocator serve large blocks from its heap and keep them there.
///
/// Call it before the first thread starts. Only glibc has these settings; elsewhere it does nothing.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: mallopt only sets parameters of the allocator, which it locks; both values are ones
        // that glibc documents, and -1 is "never": the largest number would still be only 2 GiB.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        }
    }
}
