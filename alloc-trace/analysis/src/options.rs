//! What every analysis can be asked for.

/// How a recording is analysed.
///
/// ```
/// use alloc_trace_analysis::Options;
///
/// let options = Options::default().symbols(false).span_fields(true);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub(crate) symbols: bool,
    pub(crate) span_fields: bool,
    /// Whether activations of functions are followed from event to event.
    pub(crate) activations: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { symbols: true, span_fields: false, activations: false }
    }
}

impl Options {
    /// Whether functions, files and lines are looked up; by default they are.
    ///
    /// Without them a call site is the innermost return address, as its module and the offset in
    /// it, and no file but the recording is opened.
    #[must_use]
    pub const fn symbols(mut self, symbols: bool) -> Self {
        self.symbols = symbols;
        self
    }

    /// Whether spans of one name and target are told apart by the fields that they were made with;
    /// by default they are not.
    ///
    /// A program that makes a span for each request has as many rows then.
    #[must_use]
    pub const fn span_fields(mut self, span_fields: bool) -> Self {
        self.span_fields = span_fields;
        self
    }
}
