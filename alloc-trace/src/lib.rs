//! A global allocator that records every heap request and free, with its backtrace, thread, time and tracing span.
