//! Keeps freed memory in the process, but for what it needs only once.
//!
//! XLA's CPU backend takes gigabytes of temporaries with `malloc` for every step and frees them
//! after it, and the CPU's kernels take tens of megabytes on each of their threads. By default glibc gives
//! blocks that large back to the kernel at once, so that every step faults all its pages in again; that was
//! the largest single cost of a step on a CPU.

/// Makes the C allocator serve large blocks from its heap and keep them there.
///
/// Call it before the first thread starts. Only glibc has these settings; elsewhere it does nothing.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The size of a heap of another thread than the main one. glibc unmaps the last heap of a thread when all of it
        /// is free, whatever the threshold, unless less than the pad is free in the heap before.
        const HEAP: libc::c_int = 64 << 20;
        // SAFETY: mallopt only sets parameters of the allocator, which it locks; the values are ones
        // that glibc documents, and -1 is "never": the largest number would still be only 2 GiB.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
            libc::mallopt(libc::M_TOP_PAD, HEAP);
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

/// Gives back the pages of the libraries' code and constants that were read so far: hundreds of megabytes of XLA's compiler.
/// They stay in the system's cache of files, and those that are read again come back page by page.
pub fn give_back_library_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `forget_segments` takes no data.
        unsafe { libc::dl_iterate_phdr(Some(forget_segments), std::ptr::null_mut()) };
    }
}

/// Unmaps the pages of a library's large segments that nobody writes to.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" fn forget_segments(
    library: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut libc::c_void,
) -> libc::c_int {
    /// Less is not worth a call.
    const LEAST: u64 = 1 << 20;
    // SAFETY: the C library describes a library that is loaded, with as many headers as it says. What may not be written to
    // is as it is in the file, from which its pages come back when they are read.
    unsafe {
        let page = libc::sysconf(libc::_SC_PAGESIZE) as u64;
        let library = &*library;
        let headers = std::slice::from_raw_parts(library.dlpi_phdr, library.dlpi_phnum.into());
        for header in headers {
            let is_loaded = header.p_type == libc::PT_LOAD;
            let is_written = header.p_flags & libc::PF_W != 0;
            if is_loaded && !is_written && header.p_memsz >= LEAST {
                let start = library.dlpi_addr + header.p_vaddr;
                let end = (start + header.p_memsz) / page * page;
                let start = start.next_multiple_of(page);
                let len = (end - start) as usize;
                libc::madvise(start as *mut libc::c_void, len, libc::MADV_DONTNEED);
            }
        }
    }
    0
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use std::fs::File;
    use std::hint::black_box;
    use std::os::unix::fs::FileExt;

    use super::*;

    /// So large that no page in its middle is read together with what lies beside it.
    static CONSTANTS: [u8; 1 << 20] = [1; 1 << 20];

    /// Whether the page of `byte` is mapped, by the system's table.
    fn is_mapped(byte: &u8) -> bool {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
        let mut entry = [0; 8];
        let number = std::ptr::from_ref(byte) as u64 / page;
        let table = File::open("/proc/self/pagemap").unwrap();
        table.read_exact_at(&mut entry, number * 8).unwrap();
        u64::from_le_bytes(entry) >> 63 == 1
    }

    #[test]
    fn constants_leave_the_memory_and_come_back() {
        let byte = &CONSTANTS[CONSTANTS.len() / 2];
        assert_eq!(*black_box(byte), 1);
        assert!(is_mapped(byte));
        give_back_library_pages();
        assert!(!is_mapped(byte));
        assert_eq!(*black_box(byte), 1);
        assert!(is_mapped(byte));
    }
}
