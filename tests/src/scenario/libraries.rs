//! Code that comes and goes while the program is recorded.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use super::Given;
use crate::block::{Block, TRAIL_ALIGN, trail};
use crate::os::BareThread;

type CallBack = unsafe extern "C" fn(extern "C" fn());

/// Asks for a block of 64,321 bytes through a library that is loaded late, then for 1,000 of 64,322;
/// unloads the library, puts other code where it was, and asks through that for one of 64,323.
pub(super) fn late_library(given: &Given) {
    let path = CString::new(given.text("library").expect("a library")).expect("no zero byte");
    let (library, symbol) = load(&path);
    // SAFETY: the function takes a function and calls it.
    let call_back: CallBack = unsafe { std::mem::transmute(symbol) };
    // SAFETY: as above.
    unsafe { call_back(ask_64_321) };
    for _ in 0..1000 {
        trail(64_322, 1);
    }
    // SAFETY: nothing of the library is used behind this.
    unsafe { libc::dlclose(library) };
    #[cfg(target_arch = "x86_64")]
    call_through_other_code(symbol);
    #[cfg(not(target_arch = "x86_64"))]
    ask_64_323();
}

/// Loads each of two `library`s in turn, the second where the first one was, twice over; asks through
/// the first one for blocks of 64,331 bytes and through the second for those of 64,332, each once, then
/// a second time further in. Says how many different places they had.
pub(super) fn replaced_libraries(given: &Given) {
    let mut places = Vec::new();
    let libraries =
        [(given.text("first"), ask_64_331 as extern "C" fn()), (given.text("second"), ask_64_332)];
    for (path, ask) in libraries.into_iter().chain(libraries) {
        let path = CString::new(path.expect("a library")).expect("no zero byte");
        let (library, symbol) = load(&path);
        // SAFETY: the function takes a function and calls it.
        let call_back: CallBack = unsafe { std::mem::transmute(symbol) };
        // SAFETY: as above.
        unsafe { call_back(ask) };
        // SAFETY: nothing of the library is used behind this.
        unsafe { libc::dlclose(library) };
        if !places.contains(&symbol) {
            places.push(symbol);
        }
    }
    println!("{}", places.len());
}

/// Three times over loads a `library` that has a recorder of its own, has a thread call its function `work`, unloads it,
/// and only then lets the thread end.
pub(super) fn plugin(given: &Given) {
    let path = CString::new(given.text("library").expect("a library")).expect("no zero byte");
    for _ in 0..3 {
        let (library, symbol) = load_with(&path, c"work");
        // SAFETY: the function takes nothing and answers nothing.
        let work: extern "C" fn() = unsafe { std::mem::transmute(symbol) };
        let turn = Arc::new(Barrier::new(2));
        let thread = {
            let turn = Arc::clone(&turn);
            BareThread::start("caller", move || {
                work();
                turn.wait();
                turn.wait();
            })
        };
        turn.wait();
        // SAFETY: the thread calls nothing of the library behind this.
        assert_eq!(unsafe { libc::dlclose(library) }, 0);
        turn.wait();
        thread.join();
    }
    trail(65_000, 100);
}

/// Loads a library of the test's, and finds its function `call_back`.
fn load(path: &CStr) -> (*mut c_void, *mut c_void) {
    load_with(path, c"call_back")
}

fn load_with(path: &CStr, function: &CStr) -> (*mut c_void, *mut c_void) {
    // SAFETY: the library is the test's own, and has no constructors.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    assert!(!library.is_null(), "the library can be loaded");
    // SAFETY: the handle is the library's, the name a C string.
    let symbol = unsafe { libc::dlsym(library, function.as_ptr()) };
    assert!(!symbol.is_null(), "the library has the function");
    (library, symbol)
}

/// How many threads `libraries_on_threads` has, and how many libraries they call one after the other.
const CALLERS: usize = 3;
const LOADS: usize = 12;

/// The present library's function, how many libraries were loaded, and how often they were called.
static CALLED: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static LOADED: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Loads each of three libraries in turn, each where the one before it was; three threads call through
/// each, one after the other and each time another one first, or all at once with `how=together`. Through
/// the load numbered N a thread frees the block of the load before, asks for one of 64,400 + N bytes, and
/// makes the trail of 64,500 + N. Says how many different places the libraries had.
pub(super) fn libraries_on_threads(given: &Given) {
    let together = given.text("how") == Some("together");
    let callers = [0, 1, 2].map(|number: usize| {
        BareThread::start(&format!("caller-{number}"), move || {
            for load in 0..LOADS {
                let turn = load * CALLERS + (number + load) % CALLERS;
                while LOADED.load(Ordering::Acquire) != load + 1
                    || !together && CALLS.load(Ordering::Acquire) != turn
                {
                    thread::yield_now();
                }
                // SAFETY: the function takes a function and calls it.
                let call_back: CallBack =
                    unsafe { std::mem::transmute(CALLED.load(Ordering::Acquire)) };
                // SAFETY: as above; the library stays until all have called.
                unsafe { call_back(ask_for_this_load) };
                CALLS.fetch_add(1, Ordering::AcqRel);
            }
        })
    });
    let paths = ["first", "second", "third"]
        .map(|key| CString::new(given.text(key).expect("a library")).expect("no zero byte"));
    let mut places = Vec::new();
    for number in 0..LOADS {
        let (library, symbol) = load(&paths[number % paths.len()]);
        CALLED.store(symbol, Ordering::Release);
        LOADED.store(number + 1, Ordering::Release);
        while CALLS.load(Ordering::Acquire) != (number + 1) * CALLERS {
            thread::yield_now();
        }
        // SAFETY: nothing of the library is used behind this.
        unsafe { libc::dlclose(library) };
        if !places.contains(&symbol) {
            places.push(symbol);
        }
    }
    for caller in callers {
        caller.join();
    }
    println!("{}", places.len());
}

extern "C" fn ask_for_this_load() {
    thread_local!(static KEPT: Cell<Option<Block>> = const { Cell::new(None) });
    let load = LOADED.load(Ordering::Relaxed) - 1;
    if let Some(kept) = KEPT.take() {
        kept.free();
    }
    KEPT.set(Some(Block::new(64_400 + load, TRAIL_ALIGN)));
    trail(64_500 + load, 1);
}

extern "C" fn ask_64_331() {
    trail(64_331, 1);
}

extern "C" fn ask_64_332() {
    trail(64_332, 1);
}

/// Calls back through code that is made where the library's function was.
#[cfg(target_arch = "x86_64")]
fn call_through_other_code(place: *mut c_void) {
    const PAGE: usize = 4096;
    // sub rsp, 8; call rdi; add rsp, 8; ret
    const CODE: [u8; 11] = [0x48, 0x83, 0xec, 0x08, 0xff, 0xd7, 0x48, 0x83, 0xc4, 0x08, 0xc3];
    let first = place.map_addr(|address| address & !(PAGE - 1));
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: the mapping replaces nothing, or is refused.
    let page = unsafe { libc::mmap(first, 2 * PAGE, protection, flags, -1, 0) };
    assert_eq!(page, first, "the library's place is free");
    // SAFETY: the code fits into the two pages that were just mapped.
    unsafe { ptr::copy_nonoverlapping(CODE.as_ptr(), place.cast(), CODE.len()) };
    // SAFETY: the bytes are a function of this type.
    let call_back: CallBack = unsafe { std::mem::transmute(place) };
    // SAFETY: as above.
    unsafe { call_back(ask_64_323) };
}

extern "C" fn ask_64_321() {
    trail(64_321, 1);
}

extern "C" fn ask_64_323() {
    trail(64_323, 1);
}

/// Closes every descriptor that it did not open, as a daemon does, opens a file of its own, writes
/// 1,000 bytes to it, and asks for 100,000 blocks of 64,324 bytes.
pub(super) fn closed_descriptors(given: &Given) {
    for descriptor in 3..1_000_000 {
        // SAFETY: closing a descriptor touches no memory.
        unsafe { libc::close(descriptor) };
    }
    let path = given.text("file").expect("a file");
    std::fs::write(path, [7; 1000]).expect("the file can be written");
    let _kept_open = std::fs::File::open(path).expect("the file can be opened");
    for _ in 0..100_000 {
        trail(64_324, 1);
    }
}
