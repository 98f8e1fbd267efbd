//! Keeps freed memory in the process, but for what it needs only once.
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

/// Gives memory that was freed back to the system: after work that is not done again, such as compiling. What it leaves
/// lies in pieces all over the heap, and a step's temporaries would come on top of it.
pub fn give_back_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: malloc_trim frees nothing that is in use, and locks what it looks at.
        unsafe { libc::malloc_trim(0) };
    }
}
