//! What must hold in hostile places, each in a process of its own with a time limit: a test runs
//! this program again with its own name, and there the case itself is run. `CoreAlloc` is the
//! allocator of the whole program.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use alloc_core::CoreAlloc;

mod memory;
mod process;

use memory::{limit_address_space, mapped_bytes};
use process::{abort, succeed};

#[global_allocator]
static HEAP: CoreAlloc = CoreAlloc::new();

/// Allocates and frees all sorts of things.
fn work(rounds: usize) {
    let mut map = HashMap::new();
    for round in 0..rounds {
        map.insert(round, vec![round as u8; round * 37 % 5000]);
        if round % 3 == 0 {
            map.remove(&(round / 2));
        }
    }
    let big = vec![1u8; 300_000];
    black_box(&big);
    for (round, bytes) in &map {
        assert!(bytes.iter().all(|byte| *byte == *round as u8));
    }
    HEAP.check().expect("a whole heap");
}

/// Whether a child's thread-local value was dropped.
static DROPPED: AtomicBool = AtomicBool::new(false);

struct DroppedAtExit(Vec<u8>);

impl Drop for DroppedAtExit {
    fn drop(&mut self) {
        work(50);
        DROPPED.store(self.0.len() == 1000, Ordering::Relaxed);
    }
}

/// Ends a child with 9 where all was done before.
extern "C" fn work_at_exit() {
    work(50);
    HEAP.check().expect("a whole heap");
    // SAFETY: ends the child.
    unsafe { libc::_exit(if DROPPED.load(Ordering::Relaxed) { 9 } else { 3 }) };
}

#[test]
fn a_child_of_a_many_threaded_process_can_allocate_and_exit() {
    thread_local! {
        static LAST: RefCell<Option<DroppedAtExit>> = const { RefCell::new(None) };
    }
    succeed("a_child_of_a_many_threaded_process_can_allocate_and_exit", || {
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let stop = Arc::clone(&stop);
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        work(50);
                    }
                })
            })
            .collect();
        for round in 0..100 {
            let expected = if round % 2 == 0 { 7 } else { 9 };
            // SAFETY: the child only allocates, which is what is tested, and ends.
            let child = unsafe { libc::fork() };
            assert!(child >= 0);
            if child == 0 {
                work(200);
                // A thread of the child's: it may take over a heap that was idle at the fork.
                thread::spawn(|| work(50)).join().expect("a thread in the child");
                if expected == 9 {
                    LAST.with(|last| *last.borrow_mut() = Some(DroppedAtExit(vec![1; 1000])));
                    // SAFETY: the handler is a function of the program.
                    assert_eq!(unsafe { libc::atexit(work_at_exit) }, 0);
                    // SAFETY: no other thread of the child's exits.
                    unsafe { libc::exit(2) };
                }
                // SAFETY: ends the child.
                unsafe { libc::_exit(7) };
            }
            let mut status = 0;
            // SAFETY: `status` is valid for writes.
            let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(waited, child);
            let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
            assert_eq!(code, Some(expected), "{status:#x}");
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("a worker");
        }
    });
}

/// Blocks that the handler below keeps from one signal to the next.
static KEPT: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];
static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn allocate_in_handler(_: libc::c_int) {
    let count = HANDLED.fetch_add(1, Ordering::Relaxed);
    for (index, kept) in KEPT.iter().enumerate() {
        let size = 16 << ((index + count) % 8);
        let layout = Layout::from_size_align(size, 8).expect("a layout");
        // SAFETY: the layout is not empty.
        let block = unsafe { HEAP.alloc(layout) };
        if block.is_null() {
            // SAFETY: ends the process; a handler cannot panic.
            unsafe { libc::_exit(3) };
        }
        // SAFETY: a live block; its first bytes hold its size for when it is freed.
        unsafe { block.cast::<usize>().write(size) };
        let old = kept.swap(block.expose_provenance(), Ordering::Relaxed);
        if old != 0 {
            let old: *mut u8 = std::ptr::with_exposed_provenance_mut(old);
            // SAFETY: written above, some signals ago.
            let size = unsafe { old.cast::<usize>().read() };
            let Ok(layout) = Layout::from_size_align(size, 8) else {
                // SAFETY: as above. The block was overwritten.
                unsafe { libc::_exit(4) }
            };
            // SAFETY: the block was allocated with this layout.
            unsafe { HEAP.dealloc(old, layout) };
        }
    }
}

#[test]
fn a_signal_handler_can_allocate_in_the_middle_of_an_allocation() {
    succeed("a_signal_handler_can_allocate_in_the_middle_of_an_allocation", || {
        let handler = allocate_in_handler as extern "C" fn(libc::c_int);
        // SAFETY: installs a handler that takes no lock.
        unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
        // SAFETY: has no preconditions.
        let target = unsafe { libc::pthread_self() };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let pesterer = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let before = HANDLED.load(Ordering::Relaxed);
                // SAFETY: the thread lives until this one was joined.
                unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
                while HANDLED.load(Ordering::Relaxed) == before && !stopped.load(Ordering::Relaxed)
                {
                    std::hint::spin_loop();
                }
            }
        });
        let start = Instant::now();
        let mut rounds = 0;
        // However busy the machine is: three seconds, and at least as many signals; a hang ends with
        // the process's time.
        while start.elapsed() < Duration::from_secs(3) || HANDLED.load(Ordering::Relaxed) <= 5000 {
            // Few sizes, the handler's own, each block marked as this thread's while it is.
            for size in [16, 64, 256, 1024] {
                let layout = Layout::from_size_align(size, 8).expect("a layout");
                let blocks: [*mut usize; 12] = std::array::from_fn(|index| {
                    // SAFETY: the layout is not empty.
                    let block: *mut usize = unsafe { HEAP.alloc(layout) }.cast();
                    // SAFETY: a live block of at least 16 bytes.
                    unsafe { block.write(!(rounds + index)) };
                    block
                });
                for (index, block) in blocks.into_iter().enumerate() {
                    // SAFETY: written above.
                    assert_eq!(unsafe { block.read() }, !(rounds + index), "given to two");
                    // SAFETY: allocated above with this layout.
                    unsafe { HEAP.dealloc(block.cast(), layout) };
                }
            }
            rounds += 1;
            if rounds % 500 == 0 {
                work(20);
            }
        }
        stop.store(true, Ordering::Relaxed);
        pesterer.join().expect("the other thread");
        work(500);
        let handled = HANDLED.load(Ordering::Relaxed);
        assert!(handled > 5000, "only {handled} signals");
    });
}

/// Allocates when it is dropped.
struct AllocatesOnDrop(Vec<String>);

impl Drop for AllocatesOnDrop {
    fn drop(&mut self) {
        self.0.extend((0..100).map(|n| n.to_string()));
        assert_eq!(self.0[99], "99");
    }
}

/// Rounds of key destructors that `allocate_in_key_destructor` saw.
static ROUNDS: AtomicUsize = AtomicUsize::new(0);
static KEY: AtomicUsize = AtomicUsize::new(0);

/// Keeps a block over the heap's own teardown and asks to be run again.
extern "C" fn allocate_in_key_destructor(value: *mut c_void) {
    ROUNDS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the value is a `Box` that was given up to the key.
    let old: Box<Vec<u8>> = unsafe { Box::from_raw(value.cast()) };
    assert_eq!(old.len(), 1000);
    let next = Box::new(vec![1u8; 1000]);
    drop(old);
    for _ in 0..100 {
        black_box(vec![0u8; 100]);
    }
    let key = KEY.load(Ordering::Relaxed) as libc::pthread_key_t;
    let next: *mut c_void = Box::into_raw(next).cast();
    // SAFETY: the key was made by the test; the value is what this destructor expects.
    unsafe { libc::pthread_setspecific(key, next) };
}

#[test]
fn destructors_can_allocate_after_the_heap_was_handed_back() {
    succeed("destructors_can_allocate_after_the_heap_was_handed_back", || {
        thread_local! {
            static FIRST: RefCell<Option<AllocatesOnDrop>> = const { RefCell::new(None) };
        }
        let mut key = 0;
        // SAFETY: `key` is valid for writes.
        let status =
            unsafe { libc::pthread_key_create(&raw mut key, Some(allocate_in_key_destructor)) };
        assert_eq!(status, 0);
        KEY.store(key as usize, Ordering::Relaxed);
        let run_thread = || {
            thread::spawn(move || {
                FIRST.with(|first| *first.borrow_mut() = Some(AllocatesOnDrop(Vec::new())));
                let value: *mut c_void = Box::into_raw(Box::new(vec![1u8; 1000])).cast();
                // SAFETY: the key is live; the value is what its destructor expects.
                unsafe { libc::pthread_setspecific(key, value) };
            })
            .join()
            .expect("a thread");
        };
        for _ in 0..200 {
            run_thread();
        }
        let heaps = HEAP.stats().heaps;
        for _ in 0..1000 {
            run_thread();
        }
        assert!(ROUNDS.load(Ordering::Relaxed) > 2400, "the destructor ran after the heap's own");
        HEAP.check_all().expect("a whole heap");
        // The last round's block of each thread is the test's own leak: about 1 KiB each.
        assert_eq!(HEAP.stats().heaps, heaps, "heaps were lost");
        assert!(HEAP.stats().page_bytes < 16 << 20, "{:?}", HEAP.stats());
        work(200);
    });
}

#[test]
fn growth_that_is_refused_takes_no_address_space() {
    succeed("growth_that_is_refused_takes_no_address_space", || {
        limit_address_space(1 << 30);
        let before = mapped_bytes();
        for _ in 0..4 {
            let mut layout = Layout::from_size_align(8 << 20, 8).expect("a layout");
            // SAFETY: the layout is not empty.
            let mut block = unsafe { HEAP.alloc(layout) };
            loop {
                // SAFETY: a live block of at least so many bytes.
                unsafe { block.wrapping_add(layout.size() - 1).write(7) };
                let size = layout.size() * 2;
                // SAFETY: a live block of that layout.
                let grown = unsafe { HEAP.realloc(block, layout, size) };
                if grown.is_null() {
                    break;
                }
                // SAFETY: so far the block was before it grew.
                assert_eq!(unsafe { grown.wrapping_add(layout.size() - 1).read() }, 7);
                block = grown;
                layout = Layout::from_size_align(size, 8).expect("a layout");
            }
            // Both the old block and the new one must fit.
            assert!(layout.size() >= 256 << 20, "{} MiB", layout.size() >> 20);
            // SAFETY: a live block of that layout.
            unsafe { HEAP.dealloc(block, layout) };
        }
        let more = mapped_bytes() - before;
        assert!(more < 64 << 20, "{} MiB were lost", more >> 20);
    });
}

/// A block that knows of the one obtained before it, so that nothing else is allocated.
struct Link {
    before: *mut Link,
    layout: Layout,
}

/// Takes blocks of these sizes, which are a link's at least, until there is no memory. Returns the last one
/// and the bytes of all.
fn take_all(sizes: impl IntoIterator<Item = usize>) -> (*mut Link, usize) {
    let mut last = std::ptr::null_mut();
    let mut bytes = 0;
    for size in sizes {
        let layout = Layout::from_size_align(size, 8).expect("a layout");
        // SAFETY: the layout is not empty.
        let block: *mut Link = unsafe { HEAP.alloc(layout) }.cast();
        if block.is_null() {
            break;
        }
        // SAFETY: a live block of at least a link's size.
        unsafe { block.write(Link { before: last, layout }) };
        last = block;
        bytes += size;
    }
    (last, bytes)
}

/// Frees what [`take_all`] took.
fn free_all(mut last: *mut Link) {
    while !last.is_null() {
        // SAFETY: written when it was taken.
        let Link { before, layout } = unsafe { last.read() };
        // SAFETY: allocated with this layout, and not freed yet.
        unsafe { HEAP.dealloc(last.cast(), layout) };
        last = before;
    }
}

#[test]
fn out_of_memory_is_null_and_the_heap_goes_on() {
    succeed("out_of_memory_is_null_and_the_heap_goes_on", || {
        limit_address_space(512 << 20);
        for size in [64, 3000, 100_000, 3 << 20, 20 << 20] {
            let (blocks, bytes) = take_all(std::iter::repeat(size));
            assert!(bytes > 200 << 20, "{bytes} bytes in blocks of {size}");
            free_all(blocks);
            HEAP.purge();
            work(100);
        }
    });
}

#[test]
fn what_is_kept_of_small_blocks_serves_large_ones_when_memory_is_out() {
    succeed("what_is_kept_of_small_blocks_serves_large_ones_when_memory_is_out", || {
        limit_address_space(256 << 20);
        let take_and_free_small = || {
            let (blocks, bytes) = take_all((1..=60).map(|n| 24 + n * n * 8).cycle());
            free_all(blocks);
            bytes
        };
        let take_and_free_large = |size: usize, bytes_before: usize| {
            let (blocks, bytes) = take_all(std::iter::repeat(size));
            free_all(blocks);
            assert!(
                bytes > bytes_before / 2,
                "{bytes} bytes in blocks of {size}, {bytes_before} before"
            );
        };
        for size in [3 << 20, 40 << 20] {
            take_and_free_large(size, take_and_free_small());
            // An ended thread's heap keeps some, too.
            let small = thread::spawn(take_and_free_small).join().expect("a thread");
            take_and_free_large(size, small);
        }
        HEAP.check_all().expect("a whole heap");
    });
}

/// The library of `examples/plugin.rs`, built by cargo beside this program.
fn plugin() -> std::ffi::CString {
    let program = std::env::current_exe().expect("this program's path");
    let profile = program.ancestors().nth(2).expect("target/PROFILE/deps/PROGRAM");
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--example", "plugin", "--manifest-path"]);
    cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    cargo.arg("--target-dir").arg(profile.parent().expect("target"));
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo runs").success());
    let path = profile.join("examples/libplugin.so").into_os_string().into_encoded_bytes();
    std::ffi::CString::new(path).expect("a path")
}

#[test]
fn threads_end_after_the_library_whose_heap_they_used_was_closed() {
    succeed("threads_end_after_the_library_whose_heap_they_used_was_closed", || {
        let path = plugin();
        let mut heaps = 0;
        for _ in 0..10 {
            let path = path.clone();
            let thread = thread::spawn(move || {
                // SAFETY: the library's initialisers are Rust's.
                let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
                assert!(!library.is_null());
                // SAFETY: the handle is open, the name a string.
                let found = unsafe { libc::dlsym(library, c"use_plugin_heap".as_ptr()) };
                assert!(!found.is_null());
                // SAFETY: what has this name in that library is a function of this type.
                let use_heap: extern "C" fn(usize) -> usize = unsafe { std::mem::transmute(found) };
                let heaps = use_heap(1000);
                // SAFETY: the handle is open, and nothing of the library is used below, but by what
                // is tested: this thread ends with a heap of the library's.
                assert_eq!(unsafe { libc::dlclose(library) }, 0);
                heaps
            });
            heaps = thread.join().expect("a thread");
        }
        // The library stayed, and each thread took over the heap of the one before.
        assert_eq!(heaps, 1);
        // SAFETY: as above; it is not loaded, if it is not there.
        let kept = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
        assert!(!kept.is_null());
    });
}

/// What was allocated before `main`: two blocks, one freed at once.
static BEFORE_MAIN: AtomicUsize = AtomicUsize::new(0);

/// Runs before `main`, and before Rust's runtime is set up.
#[used]
#[unsafe(link_section = ".init_array")]
static ALLOCATE_BEFORE_MAIN: extern "C" fn() = allocate_before_main;

extern "C" fn allocate_before_main() {
    let Ok(layout) = Layout::from_size_align(500, 8) else { return };
    // SAFETY: the layout is not empty.
    let [kept, freed] = [(); 2].map(|()| unsafe { HEAP.alloc(layout) });
    if kept.is_null() || freed.is_null() {
        return;
    }
    // SAFETY: a live block of so many bytes.
    unsafe { kept.write_bytes(0x5a, layout.size()) };
    // SAFETY: allocated above with this layout.
    unsafe { HEAP.dealloc(freed, layout) };
    BEFORE_MAIN.store(kept.expose_provenance(), Ordering::Relaxed);
}

#[test]
fn blocks_from_before_main_are_blocks_like_others() {
    succeed("blocks_from_before_main_are_blocks_like_others", || {
        let kept: *mut u8 =
            std::ptr::with_exposed_provenance_mut(BEFORE_MAIN.load(Ordering::Relaxed));
        assert!(!kept.is_null(), "it was refused");
        // SAFETY: a live block of so many bytes, all written.
        let bytes = unsafe { std::slice::from_raw_parts(kept, 500) };
        assert!(bytes.iter().all(|byte| *byte == 0x5a));
        work(100);
        let layout = Layout::from_size_align(500, 8).expect("a layout");
        // SAFETY: allocated before `main` with this layout.
        unsafe { HEAP.dealloc(kept, layout) };
        HEAP.check_all().expect("a whole heap");
    });
}

extern "C" fn c_thread(count: *mut c_void) -> *mut c_void {
    work(100);
    // SAFETY: the creator waits for this thread and keeps the counter.
    let count: &AtomicUsize = unsafe { &*count.cast() };
    count.fetch_add(1, Ordering::Relaxed);
    Box::into_raw(Box::new(41)).cast()
}

#[test]
fn a_thread_that_c_made_can_allocate() {
    succeed("a_thread_that_c_made_can_allocate", || {
        let count = AtomicUsize::new(0);
        for _ in 0..100 {
            // SAFETY: all zero is a valid thread id to be overwritten.
            let mut thread: libc::pthread_t = unsafe { std::mem::zeroed() };
            let argument = (&raw const count).cast_mut().cast();
            let no_attributes = std::ptr::null();
            // SAFETY: the function takes this argument, which outlives the thread.
            let status =
                unsafe { libc::pthread_create(&raw mut thread, no_attributes, c_thread, argument) };
            assert_eq!(status, 0);
            let mut result = std::ptr::null_mut();
            // SAFETY: the thread was created above and is joined once.
            unsafe { libc::pthread_join(thread, &raw mut result) };
            // SAFETY: the thread's result is a `Box` given up to its joiner.
            let result: Box<i32> = unsafe { Box::from_raw(result.cast()) };
            assert_eq!(*result, 41);
        }
        assert_eq!(count.load(Ordering::Relaxed), 100);
    });
}

#[test]
fn errno_stays_as_it_was() {
    succeed("errno_stays_as_it_was", || {
        limit_address_space(1 << 30);
        // SAFETY: this thread's `errno`, valid while it lives.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: as above.
        unsafe { errno.write(1234) };
        for size in [100, 100_000, 10 << 20, 2 << 30] {
            let layout = Layout::from_size_align(size, 8).expect("a layout");
            // SAFETY: the layout is not empty.
            let block = unsafe { HEAP.alloc(layout) };
            assert_eq!(block.is_null(), size > 1 << 30);
            if !block.is_null() {
                // SAFETY: allocated above.
                unsafe { HEAP.dealloc(block, layout) };
            }
            // SAFETY: as above.
            assert_eq!(unsafe { errno.read() }, 1234);
        }
    });
}

#[test]
fn a_block_freed_twice_ends_the_process() {
    abort("a_block_freed_twice_ends_the_process", "freed twice", || {
        let layout = Layout::from_size_align(3000, 8).expect("a layout");
        // SAFETY: the layout is not empty.
        let block = unsafe { HEAP.alloc(layout) };
        for _ in 0..2 {
            // SAFETY: wrong the second time, and found out when the cached blocks go home.
            unsafe { HEAP.dealloc(block, layout) };
        }
        HEAP.purge();
    });
}

#[test]
fn freeing_what_is_not_a_block_ends_the_process() {
    abort("freeing_what_is_not_a_block_ends_the_process", "not ours", || {
        let layout = Layout::from_size_align(100_000, 8).expect("a layout");
        let mut on_the_stack = [0u8; 16];
        // SAFETY: wrong, and found out.
        unsafe { HEAP.dealloc(black_box(on_the_stack.as_mut_ptr()), layout) };
    });
}
