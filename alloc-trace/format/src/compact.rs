//! Compact events: one word, or two where the call site is not the last one of the event's kind.
//!
//! Nearly every event is one. They are written in the middle of an allocation and read again when their
//! chunk is packed, so all of an event is put together and taken apart by shifts, without a look at how
//! long its fields are.

use crate::record::{NodeId, tag};

/// Where an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) node: NodeId,
    pub(crate) align_log2: u32,
    pub(crate) stack_pointer: u64,
}

impl Site {
    pub(crate) const NONE: Self = Self { node: NodeId::ROOT, align_log2: 0, stack_pointer: 0 };

    /// Whether it is the same one, found out without a branch for each field.
    #[inline(always)]
    pub(crate) const fn is(&self, other: &Self) -> bool {
        let node = self.node.0 ^ other.node.0;
        let align = self.align_log2 ^ other.align_log2;
        (node | align) as u64 | self.stack_pointer ^ other.stack_pointer == 0
    }
}

/// The site and the address of the last event of each kind, and which kind came last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Last {
    sites: [Site; 8],
    /// Threads often obtain blocks in one place and free others in another: so each kind has its own.
    addresses: [u64; 8],
    kind: u8,
}

impl Last {
    /// Before any event.
    pub(crate) const NONE: Self = Self { sites: [Site::NONE; 8], addresses: [0; 8], kind: 0 };

    /// The site of the last event of a kind.
    #[inline(always)]
    pub(crate) const fn site_of(&self, tag: u8) -> &Site {
        &self.sites[(tag & tag::KIND_MASK) as usize]
    }

    /// The site of the last event.
    #[inline(always)]
    pub(crate) const fn site(&self) -> &Site {
        self.site_of(self.kind)
    }

    /// The address of the last event of a kind.
    #[inline(always)]
    pub(crate) const fn address_of(&self, tag: u8) -> u64 {
        self.addresses[(tag & tag::KIND_MASK) as usize]
    }

    /// The address of the last event.
    #[inline(always)]
    pub(crate) const fn address(&self) -> u64 {
        self.address_of(self.kind)
    }

    /// An event of a kind came from the site of the last one.
    #[inline(always)]
    pub(crate) const fn came_again(&mut self, tag: u8, address: u64) {
        self.addresses[(tag & tag::KIND_MASK) as usize] = address;
        self.kind = tag;
    }

    /// An event of a kind came from a site.
    #[inline(always)]
    pub(crate) const fn came_from(&mut self, tag: u8, site: Site, address: u64) {
        self.sites[(tag & tag::KIND_MASK) as usize] = site;
        self.came_again(tag, address);
    }
}

/// Where in the word the event's kind begins, its size, the ticks since the previous record, and the way
/// from the last address of the kind: 32 bits, of which the lowest three are not set in it and are the ticks' last ones.
const KIND_SHIFT: u32 = 3;
const SIZE_SHIFT: u32 = 6;
const TICKS_SHIFT: u32 = 19;
const WAY_SHIFT: u32 = 32;
const SIZE_BITS: u32 = TICKS_SHIFT - SIZE_SHIFT;
const TICKS_BITS: u32 = 16;
/// Addresses and stack pointers are mostly multiples of so many bytes.
const UNIT_BITS: u32 = 3;

const _: () = assert!(TICKS_SHIFT + TICKS_BITS == WAY_SHIFT + UNIT_BITS);

/// How long a word is.
pub(crate) const WORD_BYTES: usize = 8;

/// Whether a way fits: what is not zero of this does not.
#[inline(always)]
const fn excess(way: u64) -> u64 {
    way.wrapping_add(1 << 31) >> 32 | way & ((1 << UNIT_BITS) - 1)
}

/// A way of 32 bits.
#[inline(always)]
const fn way(word: u64) -> u64 {
    ((word.cast_signed() >> (WAY_SHIFT + UNIT_BITS)) << UNIT_BITS).cast_unsigned()
}

/// The word of an event of the kind `tag`, whose address is `way` away from the last one of that
/// kind, but for the record's own tag; `None` where something does not fit.
#[inline(always)]
pub(crate) const fn word(tag: u8, ticks: u64, size: u64, way: u64) -> Option<u64> {
    if excess(way) | ticks >> TICKS_BITS | size >> SIZE_BITS != 0 {
        return None;
    }
    let fields = size << SIZE_SHIFT | ticks << TICKS_SHIFT | way << WAY_SHIFT;
    Some(fields | (tag as u64) << KIND_SHIFT)
}

/// The second word: the node, and the way from the last stack pointer with the alignment in the bits that
/// are not set in it; `None` where something does not fit.
#[inline(always)]
pub(crate) const fn site_word(last: &Site, site: &Site) -> Option<u64> {
    let way = site.stack_pointer.wrapping_sub(last.stack_pointer);
    if excess(way) | site.align_log2 as u64 >> UNIT_BITS != 0 {
        return None;
    }
    Some(site.node.0 as u64 | (site.align_log2 as u64) << WAY_SHIFT | way << WAY_SHIFT)
}

/// The site that a second word states.
#[inline(always)]
pub(crate) const fn site(last: &Site, word: u64) -> Site {
    Site {
        node: NodeId(word as u32),
        align_log2: (word >> WAY_SHIFT) as u32 & ((1 << UNIT_BITS) - 1),
        stack_pointer: last.stack_pointer.wrapping_add(way(word)),
    }
}

/// What the word of an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compact {
    /// The kind, as in any other event's record.
    pub(crate) tag: u8,
    pub(crate) ticks: u64,
    pub(crate) size: u64,
    /// To be added to the last address of the kind.
    pub(crate) way: u64,
}

impl Compact {
    /// Takes a word apart; of which kind it is remains to be looked at.
    #[inline(always)]
    pub(crate) const fn of(word: u64) -> Self {
        Self {
            tag: (word >> KIND_SHIFT) as u8 & tag::KIND_MASK,
            ticks: word >> TICKS_SHIFT & ((1 << TICKS_BITS) - 1),
            size: word >> SIZE_SHIFT & ((1 << SIZE_BITS) - 1),
            way: way(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_what_fits_and_nothing_else() {
        let back = 0u64.wrapping_sub(1 << 31);
        for tag in [tag::ALLOC, tag::ALLOC_ZEROED, tag::FREE] {
            for ticks in [0, 1, 0xffff] {
                for size in [0, 1, 0x1fff] {
                    for way in [0, 8, (1 << 31) - 8, back, 0u64.wrapping_sub(8)] {
                        let word = word(tag, ticks, size, way).expect("fits");
                        assert_eq!(word & 7, 0);
                        assert_eq!(Compact::of(word), Compact { tag, ticks, size, way });
                    }
                }
            }
        }
        for (ticks, size, way) in [
            (1 << 16, 0, 0),
            (u64::MAX, 0, 0),
            (0, 1 << 13, 0),
            (0, 0, 1 << 31),
            (0, 0, back - 8),
            (0, 0, 4),
        ] {
            assert_eq!(word(tag::FREE, ticks, size, way), None, "{ticks} {size} {way:x}");
        }
    }

    #[test]
    fn site_words_hold_what_fits_and_nothing_else() {
        let at =
            |stack_pointer, align_log2| Site { node: NodeId(u32::MAX), align_log2, stack_pointer };
        let last = at(1 << 40, 5);
        for near in [1 << 40, (1 << 40) + (1 << 31) - 8, (1 << 40) - (1 << 31)] {
            for align_log2 in [0, 7] {
                let new = at(near, align_log2);
                let word = site_word(&last, &new).expect("fits");
                assert_eq!(site(&last, word), new);
            }
        }
        for far in [at((1 << 40) + (1 << 31), 0), at((1 << 40) + 4, 0), at(1 << 40, 8), at(0, 0)] {
            assert_eq!(site_word(&last, &far), None);
        }
    }
}
