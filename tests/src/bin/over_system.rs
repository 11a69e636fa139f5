//! The scenarios over the system's heap.

use std::alloc::System;

use alloc_trace::TraceAlloc;
use tests::counting::Counting;

#[global_allocator]
static ALLOCATOR: TraceAlloc<Counting<System>> = TraceAlloc::new(Counting(System));

fn main() {
    tests::scenario::main();
}
