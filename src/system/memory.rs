//! Keeps freed memory in the process.
//!
//! XLA's CPU backend takes gigabytes of temporaries with `malloc` for every step and frees them
//! after it. By default glibc gives blocks that large back to the kernel at once, so that every step
//! faults all its pages in again; that was the largest single cost of a step on a CPU.

/// Makes the C allocator serve large blocks from its heap and keep them there.
///
/// Call it before the first thread starts. On other C libraries than glibc it does nothing.
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

/// The most memory that this process ever had resident, in bytes; `None` where the system does not
/// say.
pub fn peak_resident_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// The memory that this process has resident, in bytes; `None` where the system does not say.
pub fn resident_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

fn status_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
