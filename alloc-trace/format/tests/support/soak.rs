//! How long tests that search at random go on.

/// How many times longer than by default: `ALLOC_TRACE_SOAK=100` takes minutes.
pub(crate) fn soak() -> u64 {
    let times = std::env::var("ALLOC_TRACE_SOAK").ok();
    times.and_then(|times| times.parse().ok()).unwrap_or(1)
}
