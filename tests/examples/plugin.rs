//! A library with an allocator and a recorder of its own, as a plugin of a program can be.

use std::alloc::System;
use std::hint::black_box;

use alloc_trace::TraceAlloc;

#[global_allocator]
static ALLOCATOR: TraceAlloc<System> = TraceAlloc::new(System);

/// Makes 100 blocks of 64,601 bytes, one after the other.
// SAFETY: no other function of this name is in the library, and a program asks for it by the library's handle.
#[unsafe(no_mangle)]
pub extern "C" fn work() {
    for _ in 0..100 {
        drop(black_box(Vec::<u8>::with_capacity(64_601)));
    }
}
