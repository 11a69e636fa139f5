//! A frame of a backtrace, by name.

use std::sync::Arc;

use serde::Serialize;

/// A frame of a backtrace. Functions that the compiler inlined have frames of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Frame {
    /// The function's demangled name; `[module+offset]` where nothing is known of it, and
    /// `[allocator module+offset]` where backtraces tell that it is the allocator's.
    pub function: Arc<str>,
    /// The source file, where there is debug information.
    pub file: Option<Arc<str>>,
    /// The line of the call, where there is debug information.
    pub line: Option<u32>,
    /// The file that the code was loaded from.
    pub module: Option<Arc<str>>,
    /// Whether the name is known, rather than made of the address.
    pub named: bool,
}
