//! The scenarios over the heap of `alloc-core`.

use alloc_core::CoreAlloc;
use alloc_trace::TraceAlloc;
use tests::counting::Counting;

#[global_allocator]
static ALLOCATOR: TraceAlloc<Counting<CoreAlloc>> = TraceAlloc::new(Counting(CoreAlloc::new()));

fn main() {
    tests::scenario::main();
}
