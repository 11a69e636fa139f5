//! What nobody can foretell: how cached pointers are encoded, and in which order a page's blocks are
//! handed out.
//!
//! What a write through a stray pointer leaves in a cache is no address, and what it reads there is none.
//! The random numbers are the kernel's (`AT_RANDOM`) and those of a generator that it seeds: good
//! against accidents and against an attacker who cannot read memory, no cryptography.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::os;

/// Whether a page's blocks are handed out in an order that nobody can tell.
pub(crate) const RANDOM_ORDER: bool = true;

/// What cached pointers are encoded with; 0 until it is chosen.
static KEY: AtomicUsize = AtomicUsize::new(0);

/// No address has this bit, so that no encoded one is null.
const KEY_BIT: usize = 1 << 63;

/// State of the generator. It is read and written apart: threads that race get the same number,
/// which does no harm.
static STATE: AtomicU64 = AtomicU64::new(0);

#[inline]
fn key() -> usize {
    let key = KEY.load(Ordering::Relaxed);
    if key != 0 { key } else { choose_key() }
}

#[cold]
fn choose_key() -> usize {
    let [key, seed] = os::startup_random();
    STATE.store(seed, Ordering::Relaxed);
    let key = key as usize | KEY_BIT;
    match KEY.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => key,
        Err(first) => first,
    }
}

/// A block as it is written into a cache. Null stays null.
#[inline]
pub(crate) fn encode(block: *mut u8) -> *mut u8 {
    if block.is_null() { block } else { block.map_addr(|address| address ^ key()) }
}

/// A block as it was before it was encoded.
#[inline]
pub(crate) fn decode(block: *mut u8) -> *mut u8 {
    encode(block)
}

/// A number below `limit`, which is not 0. Steele, Lea and Flood's SplitMix64 (2014).
#[inline]
pub(crate) fn random(limit: u32) -> u32 {
    // The key seeds the generator.
    key();
    let state = STATE.load(Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.store(state, Ordering::Relaxed);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (((mixed >> 32) * u64::from(limit)) >> 32) as u32
}
