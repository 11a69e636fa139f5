//! When a program's live bytes were at their peak: the one figure that a filter may ask for before there are
//! any.

use alloc_trace_format::{EventKind, ReadError, Recording, Step};

use crate::definitions::Definitions;
use crate::held_size::{HeldSize, LargeSizes};
use crate::live::LiveBlocks;
use crate::live_bytes::LiveBytes;
use crate::recorder_blocks::RecorderBlocks;

/// When the program's live bytes were first at their peak, in nanoseconds from the beginning of the
/// recording: as a summary of all of it has it.
pub(crate) fn peak_ns(recording: &Recording, definitions: &Definitions) -> Result<u64, ReadError> {
    let mut blocks = Blocks::default();
    let mut recorder = RecorderBlocks::default();
    let (mut peak_bytes, mut peak_stamp) = (0, 0);
    let mut records = recording.merged_in_brief();
    loop {
        match records.advance()? {
            Step::Event => {}
            Step::Other(_) => continue,
            Step::End => return Ok(recording.clock().ns(peak_stamp)),
        }
        let event = records.event();
        let thread = definitions.threads.get(definitions.thread(event.thread));
        let internal = recorder.follow(event, thread.is_some_and(|thread| thread.internal));
        if event.failed {
            continue;
        }
        match event.kind {
            EventKind::Free => blocks.release(event.address),
            EventKind::Realloc => blocks.release(event.old_address),
            EventKind::Alloc | EventKind::AllocZeroed => {}
        }
        if event.kind != EventKind::Free && !internal {
            blocks.release(event.address);
            blocks.obtain(event.address, event.size);
            let live_bytes = blocks.live_bytes.get();
            if live_bytes > peak_bytes {
                (peak_bytes, peak_stamp) = (live_bytes, event.stamp);
            }
        }
    }
}

/// The program's live blocks.
#[derive(Debug)]
struct Blocks {
    live: LiveBlocks<HeldSize>,
    large: LargeSizes,
    live_bytes: LiveBytes,
}

impl Default for Blocks {
    fn default() -> Self {
        let (large, live_bytes) = (LargeSizes::default(), LiveBytes::default());
        Self { live: LiveBlocks::new(HeldSize::ZERO), large, live_bytes }
    }
}

impl Blocks {
    fn obtain(&mut self, address: u64, size: u64) {
        self.live.insert(address, self.large.hold(address, size));
        self.live_bytes.add(size);
    }

    /// Releases what is live at an address, if anything is.
    fn release(&mut self, address: u64) {
        if let Some(held) = self.live.remove(address) {
            self.live_bytes.take(self.large.release(address, held));
        }
    }
}
