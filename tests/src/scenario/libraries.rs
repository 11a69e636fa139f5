//! Code that comes and goes while the program is recorded.

use std::ffi::{CString, c_void};
use std::ptr;

use super::Given;
use crate::block::trail;

type CallBack = unsafe extern "C" fn(extern "C" fn());

/// Asks for a block of 64,321 bytes through a library that is loaded late, then for 1,000 of 64,322;
/// unloads the library, puts other code where it was, and asks through that for one of 64,323.
pub(super) fn late_library(given: &Given) {
    let path = CString::new(given.text("library").expect("a library")).expect("no zero byte");
    // SAFETY: the library is the test's own, and has no constructors.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    assert!(!library.is_null(), "the library can be loaded");
    // SAFETY: the handle is the library's, the name a C string.
    let symbol = unsafe { libc::dlsym(library, c"call_back".as_ptr()) };
    assert!(!symbol.is_null(), "the library has the function");
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
        // SAFETY: the library is the test's own, and has no constructors.
        let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!library.is_null(), "the library can be loaded");
        // SAFETY: the handle is the library's, the name a C string.
        let symbol = unsafe { libc::dlsym(library, c"call_back".as_ptr()) };
        assert!(!symbol.is_null(), "the library has the function");
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
