//! The blocks that the recorder's own threads allocated: they are not the program's, whoever frees them.

use alloc_trace_format::{Event, EventKind};
use rustc_hash::FxHashSet;

/// The addresses of those that are live.
#[derive(Debug, Default)]
pub(crate) struct RecorderBlocks(FxHashSet<u64>);

impl RecorderBlocks {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them is at an address.
    #[inline]
    pub(crate) fn has(&self, address: u64) -> bool {
        self.0.contains(&address)
    }

    /// Whether an event is the recorder's own; follows the blocks that are.
    pub(crate) fn follow(&mut self, event: &Event, own_thread: bool) -> bool {
        if event.failed {
            return own_thread || self.0.contains(&event.old_address);
        }
        let released = match event.kind {
            EventKind::Free => self.0.remove(&event.address),
            EventKind::Realloc => self.0.remove(&event.old_address),
            EventKind::Alloc | EventKind::AllocZeroed => false,
        };
        let internal = own_thread || released;
        if event.kind != EventKind::Free {
            if internal {
                self.0.insert(event.address);
            } else {
                self.0.remove(&event.address);
            }
        }
        internal
    }
}
