//! What every analysis can be asked for.

use std::sync::Arc;

use crate::call_tree::TreeForm;
use crate::filter::Filter;

/// How a recording is analysed.
///
/// ```
/// use alloc_trace_analysis::Options;
///
/// let options = Options::default().symbols(false).span_fields(true);
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) symbols: bool,
    pub(crate) keep_symbols: bool,
    pub(crate) debuginfod: bool,
    pub(crate) span_fields: bool,
    pub(crate) lifetimes: bool,
    pub(crate) filter: Arc<Filter>,
    /// Whether activations of functions are followed from event to event.
    pub(crate) activations: bool,
    /// Whether the call tree by functions is made.
    pub(crate) flame_tree: bool,
    pub(crate) all_frames: bool,
    /// Whether the tree of frames is made.
    pub(crate) backtraces: bool,
    /// Whether the filter is asked for events, each by itself, and not for blocks.
    pub(crate) of_events: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            symbols: true,
            keep_symbols: false,
            debuginfod: false,
            span_fields: false,
            lifetimes: true,
            filter: Arc::default(),
            activations: false,
            flame_tree: false,
            all_frames: false,
            backtraces: false,
            of_events: false,
        }
    }
}

impl Options {
    /// Which form of the call tree the analysis goes by.
    pub(crate) const fn tree_form(&self) -> TreeForm {
        if self.backtraces && !self.activations { TreeForm::Merged } else { TreeForm::Numbered }
    }

    /// Whether functions, files and lines are looked up; by default they are.
    ///
    /// Without them a call site is the innermost return address, as its module and the offset in
    /// it, and no file but the recording is opened.
    #[must_use]
    pub const fn symbols(mut self, symbols: bool) -> Self {
        self.symbols = symbols;
        self
    }

    /// Whether the names that are found are kept in a file beside the recording, its name with
    /// `.symbols` behind it, and taken from there the next time; by default they are not.
    ///
    /// They stay then when the program is built anew, and go with the recording to another machine.
    #[must_use]
    pub const fn keep_symbols(mut self, keep: bool) -> Self {
        self.keep_symbols = keep;
        self
    }

    /// Whether debug information that is nowhere on this machine is asked of debuginfod servers, by
    /// running `debuginfod-find`; by default it is not, for it goes over the network and can take long.
    ///
    /// Which servers that asks, and where it keeps what they answer, says the environment: see
    /// `DEBUGINFOD_URLS` in its manual.
    #[must_use]
    pub const fn debuginfod(mut self, ask: bool) -> Self {
        self.debuginfod = ask;
        self
    }

    /// Whether a [`Summary`](crate::Summary) sums up how long blocks lived; by default it does.
    ///
    /// Without it [`Figures::lifetime_ns`](crate::Figures::lifetime_ns) is 0 there, and reading takes about a
    /// twentieth less time.
    #[must_use]
    pub const fn lifetimes(mut self, lifetimes: bool) -> Self {
        self.lifetimes = lifetimes;
        self
    }

    /// Whether spans of one name and target are told apart by their fields; by default they are not.
    /// What happened in a span before a field was set is of the span without it.
    ///
    /// A program that makes a span for each request has as many rows then.
    #[must_use]
    pub const fn span_fields(mut self, span_fields: bool) -> Self {
        self.span_fields = span_fields;
        self
    }

    /// Whether call trees and backtraces have the frames of allocators, runtime and standard libraries
    /// too; by default they have not, and a backtrace ends with its call site.
    ///
    /// With all frames a call site is the innermost of them, whatever code that is.
    #[must_use]
    pub const fn all_frames(mut self, all: bool) -> Self {
        self.all_frames = all;
        self
    }

    /// What part of the recording is looked at; by default all of it.
    ///
    /// A filter by lifetime or by what was live at a moment costs another pass over the recording.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Arc::new(filter);
        self
    }
}
