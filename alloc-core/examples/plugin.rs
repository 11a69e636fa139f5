//! A library with a heap of its own, for programs that load it while they run: `tests/hostile.rs`
//! does. Cargo builds it as `libplugin.so`.

use std::hint::black_box;

use alloc_core::CoreAlloc;

#[global_allocator]
static HEAP: CoreAlloc = CoreAlloc::new();

/// Allocates and frees. Returns how many heaps the library has.
#[unsafe(no_mangle)]
pub extern "C" fn use_plugin_heap(rounds: usize) -> usize {
    let words: Vec<String> = (0..rounds).map(|round| round.to_string()).collect();
    assert_eq!(black_box(&words).len(), rounds);
    drop(words);
    HEAP.stats().heaps
}
