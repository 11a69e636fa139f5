//! Mappings of huge blocks that were freed, kept for a period: whoever asks for a block that is no longer has its
//! memory without a page fault.
//!
//! Beside the huge blocks that are live there is never more of them than the program itself had in huge blocks
//! before; so they take nothing that was not taken already. A mapping that is not asked for goes back to the OS when
//! unused slices do. There are none where the address space is limited, since it is others' as well, and none in
//! the hardened build, where a freed block is better not there.

mod mappings;

use core::ptr::NonNull;

use crate::hardened::IS_HARDENED;
use crate::sync::AtomicU64;
use crate::{counters, os, purger};

use mappings::{Spare, Spares};

/// Bytes that are kept at most, all together: of more than that the page faults are no loss that is felt, and
/// somebody else may be short of it.
const MOST_BYTES: usize = 64 << 20;

/// Mappings that are kept at most: two lines of a cache.
const COUNT: usize = 16;

/// What is kept.
static SPARES: Spares<COUNT> = Spares::new([const { AtomicU64::new(0) }; COUNT]);

/// Keeps the mapping of a huge block that was freed. `false` leaves it to the caller.
pub(crate) fn keep(block: NonNull<u8>, bytes: usize) -> bool {
    let kept = SPARES.bytes();
    if IS_HARDENED || kept + bytes > MOST_BYTES || os::is_address_space_limited() {
        return false;
    }
    match SPARES.put_joined(Spare { start: block, bytes, is_old: false }) {
        Ok(()) => purger::mappings_are_kept(kept + bytes),
        // SAFETY: the block was freed, and what it was joined with is nobody's.
        Err(whole) => unsafe { whole.unmap() },
    }
    true
}

/// Takes a mapping that is kept, for a huge block of so many bytes. It may be a little longer, and holds anything.
pub(crate) fn take(bytes: usize, align: usize) -> Option<(NonNull<u8>, usize)> {
    let Spare { start, bytes: has, is_old } = SPARES.take(bytes, align)?;
    let rest = has - bytes;
    if rest <= bytes / 4 {
        return Some((start, has));
    }
    // SAFETY: inside of the mapping.
    let end = unsafe { start.add(bytes) };
    // It is one with the block again when that is freed.
    if !SPARES.put(Spare { start: end, bytes: rest, is_old }) {
        // SAFETY: a part of a mapping that was kept, of which nobody knows any more.
        unsafe { os::unmap(end, rest) };
    }
    Some((start, bytes))
}

/// Gives mappings up until those that are kept, those of live blocks and so many bytes more are no more than there
/// were before.
pub(crate) fn make_room(more: usize) {
    let most = counters::HUGE_PEAK.get();
    while SPARES.bytes() != 0 && counters::HUGE_BYTES.get() + more + SPARES.bytes() > most {
        let Some(spare) = SPARES.take(0, 1) else { return };
        // SAFETY: nobody has it any more.
        unsafe { spare.unmap() };
    }
}

/// Gives up all mappings, or those that were there at the last call already. Returns their bytes.
pub(crate) fn purge(all: bool) -> usize {
    SPARES.purge(all, |spare| {
        // SAFETY: nobody has it any more.
        unsafe { spare.unmap() }
    })
}

/// Where they begin, and how long they are. Others may take them meanwhile.
pub(crate) fn ranges() -> impl Iterator<Item = (usize, usize)> {
    SPARES.all().map(|spare| (spare.start.addr().get(), spare.bytes))
}

/// Their bytes.
pub(crate) fn bytes() -> usize {
    SPARES.bytes()
}
