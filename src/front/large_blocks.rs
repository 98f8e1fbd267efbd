//! Keeps large blocks of memory that are freed, for whoever asks for as much next.
//!
//! A CPU plugin takes the temporaries of each step as one block, on threads of its own. glibc gives a block of more than
//! 64 MiB that such a thread frees back to the kernel, whatever its settings, so that every step would touch all its
//! temporaries as new pages. On the main thread the settings of `system/memory.rs` keep them.
//!
//! Both functions stand before the C library's of the same names, in the whole process, because a program's symbols come
//! before its libraries'. The blocks are the C library's, or of what stands in for it by `LD_PRELOAD`: any of its functions
//! takes them.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The largest heap that glibc makes for another thread than the main one.
const LARGE: usize = 64 << 20;

/// A step begins when the results of the one before are there, which may be a moment before its block is free. Longer than
/// that moment on a busy machine; replicas, which need a block each at the same time, wait this long once.
const PATIENCE: Duration = Duration::from_millis(200);

static BLOCKS: Mutex<Blocks> = Mutex::new(Blocks([None; 32]));
static FREED: Condvar = Condvar::new();

/// The C library's function, but for large blocks of other threads than the main one: of those that were freed before, the
/// smallest that fits.
///
/// # Safety
/// `place` is that of a pointer, as for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(
    place: *mut *mut c_void,
    alignment: usize,
    size: usize,
) -> c_int {
    if size < LARGE || is_main_thread() {
        // SAFETY: as the caller promises.
        return unsafe { next_posix_memalign(place, alignment, size) };
    }
    let waited = FREED.wait_timeout_while(lock(), PATIENCE, |blocks| {
        blocks.is_worth_waiting(alignment, size)
    });
    let (mut blocks, waited) = waited.unwrap_or_else(PoisonError::into_inner);
    if let Some(address) = blocks.take(alignment, size) {
        // SAFETY: as the caller promises.
        unsafe { *place = address as *mut c_void };
        return 0;
    }
    if waited.timed_out() {
        blocks.expect_none();
    }
    // They are too small, and the new one will do in their place.
    while let Some(address) = blocks.forget_free() {
        // SAFETY: it is a block that was freed, and nobody has it now.
        unsafe { next_free(address as *mut c_void) };
    }
    // SAFETY: as the caller promises; where there is no error, the pointer is set.
    unsafe {
        let error = next_posix_memalign(place, alignment, size);
        if error == 0 {
            blocks.add(*place as usize, size);
        }
        error
    }
}

/// The C library's function, but for blocks that [`posix_memalign`] keeps.
///
/// # Safety
/// `block` is one of the C library's that is used no more, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: as the caller promises.
    unsafe {
        let size = libc::malloc_usable_size(block);
        if size >= LARGE && lock().give_back(block as usize, size) {
            FREED.notify_all();
        } else {
            next_free(block);
        }
    }
}

fn lock() -> MutexGuard<'static, Blocks> {
    BLOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_main_thread() -> bool {
    // SAFETY: both only ask for a number.
    unsafe { libc::syscall(libc::SYS_gettid) == libc::c_long::from(libc::getpid()) }
}

/// # Safety
/// As for the C library's.
unsafe fn next_posix_memalign(place: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
    type Function = unsafe extern "C" fn(*mut *mut c_void, usize, usize) -> c_int;
    static KNOWN: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
    // SAFETY: the C library's function has this type, and null is none.
    unsafe {
        match std::mem::transmute::<*mut c_void, Option<Function>>(next(&KNOWN, c"posix_memalign"))
        {
            Some(function) => function(place, alignment, size),
            None => libc::ENOMEM,
        }
    }
}

/// # Safety
/// As for the C library's.
unsafe fn next_free(block: *mut c_void) {
    type Function = unsafe extern "C" fn(*mut c_void);
    static KNOWN: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
    // SAFETY: the C library's function has this type, and null is none.
    unsafe {
        if let Some(function) =
            std::mem::transmute::<*mut c_void, Option<Function>>(next(&KNOWN, c"free"))
        {
            function(block);
        }
    }
}

/// The function `name` of the first library that has it, null if none has.
fn next(known: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    let mut function = known.load(Ordering::Relaxed);
    if function.is_null() {
        // SAFETY: `name` ends with a zero.
        function = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
        known.store(function, Ordering::Relaxed);
    }
    function
}

#[derive(Clone, Copy)]
struct Block {
    address: usize,
    size: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Free,
    /// Somebody has it, and may soon give it back.
    Taken,
    /// Somebody has had it for long.
    Held,
}

/// An array, because this must not ask for memory.
struct Blocks([Option<Block>; 32]);

impl Blocks {
    fn fitting(&mut self, alignment: usize, size: usize) -> impl Iterator<Item = &mut Block> {
        let all = self.0.iter_mut().flatten();
        all.filter(move |block| block.size >= size && block.address.is_multiple_of(alignment))
    }

    /// The smallest free block that fits, which is then taken.
    fn take(&mut self, alignment: usize, size: usize) -> Option<usize> {
        let fitting = self.fitting(alignment, size);
        let free = fitting.filter(|block| block.state == State::Free);
        let block = free.min_by_key(|block| block.size)?;
        block.state = State::Taken;
        Some(block.address)
    }

    /// Whether none that fits is free, but one may be soon.
    fn is_worth_waiting(&mut self, alignment: usize, size: usize) -> bool {
        let mut is_worth = false;
        for block in self.fitting(alignment, size) {
            match block.state {
                State::Free => return false,
                State::Taken => is_worth = true,
                State::Held => {}
            }
        }
        is_worth
    }

    /// Has nobody wait again for the blocks that are taken now.
    fn expect_none(&mut self) {
        let taken = self.0.iter_mut().flatten();
        for block in taken.filter(|block| block.state == State::Taken) {
            block.state = State::Held;
        }
    }

    /// Whether the block at `address` is one of these; it is then free. Its size may not be what it was: the C library's
    /// `realloc` tells nobody.
    fn give_back(&mut self, address: usize, size: usize) -> bool {
        let mut all = self.0.iter_mut().flatten();
        let block = all.find(|block| block.address == address);
        block
            .map(|block| (block.size, block.state) = (size, State::Free))
            .is_some()
    }

    /// Takes a free block out, if there is one.
    fn forget_free(&mut self) -> Option<usize> {
        let is_free =
            |place: &&mut Option<Block>| place.is_some_and(|block| block.state == State::Free);
        let block = self.0.iter_mut().find(is_free)?.take()?;
        Some(block.address)
    }

    /// Adds a block that is taken, in place of one that was there before and that `realloc` moved. Where there is no room,
    /// it is like any other block.
    fn add(&mut self, address: usize, size: usize) {
        let was_here =
            |place: &&mut Option<Block>| place.is_some_and(|block| block.address == address);
        if let Some(place) = self.0.iter_mut().find(was_here) {
            *place = None;
        }
        if let Some(place) = self.0.iter_mut().find(|place| place.is_none()) {
            *place = Some(Block {
                address,
                size,
                state: State::Taken,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_free_block_that_fits_is_taken() {
        let mut blocks = Blocks([None; 32]);
        for (address, size) in [(64, 30), (128, 10), (256, 20)] {
            blocks.add(address, size);
        }
        assert_eq!(blocks.take(64, 15), None);
        assert!(blocks.is_worth_waiting(64, 15));
        assert!(!blocks.is_worth_waiting(64, 31));
        for (address, size) in [(64, 30), (128, 10), (256, 20)] {
            assert!(blocks.give_back(address, size));
        }
        assert!(!blocks.give_back(192, 40));
        assert!(!blocks.is_worth_waiting(64, 15));
        assert_eq!(blocks.take(64, 15), Some(256));
        assert_eq!(blocks.take(128, 15), None);
        assert_eq!(blocks.take(64, 15), Some(64));
        // Held for long: nobody waits for them, until they have been free.
        blocks.expect_none();
        assert!(!blocks.is_worth_waiting(64, 15));
        blocks.give_back(64, 30);
        assert_eq!(blocks.take(64, 15), Some(64));
        assert!(blocks.is_worth_waiting(64, 15));
        // The one of 10 is too small for anybody, and goes.
        assert_eq!(blocks.forget_free(), Some(128));
        assert_eq!(blocks.forget_free(), None);
    }

    #[test]
    fn a_block_that_was_resized_or_moved_has_the_size_that_it_has_now() {
        let mut blocks = Blocks([None; 32]);
        blocks.add(64, 30);
        assert!(blocks.give_back(64, 20));
        assert_eq!(blocks.take(64, 25), None);
        assert_eq!(blocks.take(64, 20), Some(64));
        // Moved away, and its place is given to another.
        blocks.add(64, 40);
        assert!(blocks.give_back(64, 40));
        assert_eq!(blocks.take(64, 35), Some(64));
        assert_eq!(blocks.take(64, 10), None, "one entry alone");
    }

    /// The functions of this file are those that the test's process calls.
    #[test]
    fn a_thread_gets_the_block_that_another_freed() {
        let ask = || {
            let mut block = ptr::null_mut();
            // SAFETY: the pointer has a place.
            assert_eq!(
                unsafe { libc::posix_memalign(&mut block, 64, LARGE + 4096) },
                0
            );
            block as usize
        };
        let on_thread = |ask: fn() -> usize| std::thread::spawn(ask).join().unwrap();
        let first = on_thread(ask);
        // While nobody frees it, another block is given, after a while.
        let second = on_thread(ask);
        assert_ne!(first, second);
        // SAFETY: it was given, and is used no more.
        unsafe { libc::free(second as *mut c_void) };
        assert_eq!(on_thread(ask), second);
        for block in [first, second] {
            // SAFETY: as above.
            unsafe { libc::free(block as *mut c_void) };
        }
        // Both are kept.
        let mut kept = [on_thread(ask), on_thread(ask)];
        kept.sort_unstable();
        let mut given = [first, second];
        given.sort_unstable();
        assert_eq!(kept, given);
    }
}
