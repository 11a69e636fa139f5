//! The scenarios over a heap that signal handlers may ask.

use alloc_trace::TraceAlloc;
use tests::counting::Counting;
use tests::pool::Pool;

#[global_allocator]
static ALLOCATOR: TraceAlloc<Counting<Pool>> = TraceAlloc::new(Counting(Pool));

fn main() {
    tests::scenario::main();
}
