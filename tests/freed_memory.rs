//! What a thread frees stays mapped. A process of its own, in which nothing else asks for memory meanwhile.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::thread;

use resnet_xla::system::memory::keep_freed_memory;

/// How often this thread has touched a page that was not mapped.
fn page_faults() -> i64 {
    let mut usage = MaybeUninit::uninit();
    // SAFETY: `usage` has room for what is written, and all of it is written where there is no error.
    let usage = unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()), 0);
        usage.assume_init()
    };
    usage.ru_minflt
}

fn use_two_heaps() {
    // A heap of glibc's has 64 MiB, so each of these needs one.
    black_box([vec![1_u8; 40 << 20], vec![1; 40 << 20]]);
}

#[test]
fn what_a_thread_frees_it_gets_again_without_a_page_fault() {
    keep_freed_memory();
    let again = thread::spawn(|| {
        use_two_heaps();
        let before = page_faults();
        use_two_heaps();
        page_faults() - before
    });
    // Each block has 10,240 pages.
    let again = again.join().unwrap();
    assert!(again < 100, "{again} page faults");
}
