//! The segments of an arena, and in which of them a run of slices is placed: where the same processor's
//! threads have others, or else where those of no other have, or else where there is room; as high up as
//! there is any. That is asked of all arenas before the next is, by [`in_turn`]: the first one may have a
//! single segment.
//!
//! Segments that are full are not looked into: see [`open`](crate::open). `tests/loom` plays claims,
//! releases and purges of several processors' threads.

use crate::open;
use crate::segment::{Placement, Run, SLICES, Segment};
use crate::sync::{AtomicU8, AtomicU64, Ordering};

/// Segments among which the one with most room is looked for. More would spread what grows over
/// memory that nobody has touched yet.
const ROOMY_SEGMENTS: usize = 4;

/// Whose segments a run is claimed in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose {
    /// Those of the asking thread's processor.
    Own,
    /// Those of none, which are that one's from then on.
    Nobodys,
    /// Any.
    Anybodys,
}

impl Whose {
    /// Where is looked after these had nothing.
    fn next(self) -> Option<Self> {
        match self {
            Self::Own => Some(Self::Nobodys),
            Self::Nobodys => Some(Self::Anybodys),
            Self::Anybodys => None,
        }
    }

    /// Whose segments are meant if this one asks: of those of a user the bits that are set in the second
    /// number are as in the first.
    fn pattern(self, user: u8) -> (u8, u8) {
        match self {
            Self::Own => (user, u8::MAX),
            Self::Nobodys => (0, u8::MAX),
            Self::Anybodys => (0, 0),
        }
    }
}

/// Claims where it is best: `claim` is asked for each of these in turn, and looks into all arenas each time.
///
/// Here and in what it asks there are loops in place of iterators, and one call of each function: so it all
/// becomes one function, and what is found stays in registers.
#[inline]
pub(crate) fn in_turn<T>(claim: impl Fn(Whose) -> Option<T>) -> Option<T> {
    let mut whose = Whose::Own;
    loop {
        let claimed = claim(whose);
        if claimed.is_some() {
            return claimed;
        }
        whose = whose.next()?;
    }
}

/// For each segment the number of the processor whose threads use it first; 0 for none. A hint,
/// which keeps threads that run at once out of each other's way. Not the thread: where there are more of
/// them than processors, each would touch memory of its own.
#[derive(Debug)]
struct Users<const SEGMENTS: usize>([AtomicU8; SEGMENTS]);

impl<const SEGMENTS: usize> Users<SEGMENTS> {
    fn of(&self, segment: usize) -> u8 {
        self.0[segment % SEGMENTS].load(Ordering::Relaxed)
    }

    fn set(&self, segment: usize, user: u8) {
        self.0[segment % SEGMENTS].store(user, Ordering::Relaxed);
    }
}

/// So many segments, installed or not, with a bit for each in `WORDS` words. All zero is none. Slices are
/// counted from the first segment's first one.
#[derive(Debug)]
pub(crate) struct Segments<const SEGMENTS: usize, const WORDS: usize> {
    segments: [Segment; SEGMENTS],
    /// Whose large blocks were put into a segment first.
    block_users: Users<SEGMENTS>,
    /// Whose pages were.
    page_users: Users<SEGMENTS>,
    /// A bit for each segment with free slices. May be set where there is none left.
    open: [AtomicU64; WORDS],
}

impl<const SEGMENTS: usize, const WORDS: usize> Segments<SEGMENTS, WORDS> {
    /// None, for models: elsewhere it is zero memory.
    #[cfg(test)]
    #[allow(dead_code, reason = "the crate's own tests have whole arenas")]
    pub(crate) fn new() -> Self {
        let users = || Users(core::array::from_fn(|_| AtomicU8::new(0)));
        Self {
            segments: core::array::from_fn(|_| Segment::new()),
            block_users: users(),
            page_users: users(),
            open: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// All of them, installed or not.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter()
    }

    /// The segment that a slice is in.
    pub(crate) fn of_slice(&self, slice: usize) -> &Segment {
        self.at(slice / SLICES as usize)
    }

    fn at(&self, index: usize) -> &Segment {
        &self.segments[index % SEGMENTS]
    }

    /// The processor whose large blocks were put into a segment first; 0 for none.
    pub(crate) fn block_user(&self, index: usize) -> u8 {
        self.block_users.of(index)
    }

    /// Whether a segment is looked at when slices are wanted.
    pub(crate) fn is_open(&self, index: usize) -> bool {
        open::is_open(&self.open, index % SEGMENTS)
    }

    /// Has a segment looked at, after it was installed or slices of it became free.
    pub(crate) fn set_open(&self, index: usize) {
        open::open(&self.open, index % SEGMENTS);
    }

    /// Those that are looked at when slices are wanted.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Segment> {
        self.open_segments().map(|index| self.at(index))
    }

    /// Clears a segment's bit when its last slice was claimed.
    #[cold]
    fn set_closed(&self, segment: usize) {
        open::close(&self.open, segment % SEGMENTS, || self.at(segment).free() != 0);
    }

    /// The segments that are looked at when slices are wanted, highest first: the kernel maps
    /// downwards, so that segments in use lie above those not touched yet.
    fn open_segments(&self) -> impl Iterator<Item = usize> {
        self.open.iter().enumerate().rev().flat_map(|(word_index, word)| {
            let mut open = word.load(Ordering::Relaxed);
            core::iter::from_fn(move || {
                let highest = open.checked_ilog2()?;
                open &= !(1 << highest);
                Some(word_index * 64 + highest as usize)
            })
        })
    }

    /// Claims a run in one of these segments of a user, and makes it that one's if it is nobody's. Returns it
    /// with its first slice's index.
    #[inline]
    fn claim_of(
        &self,
        users: &Users<SEGMENTS>,
        (whose, user): (Whose, u8),
        claim: impl Fn(usize) -> Option<(usize, Run)>,
    ) -> Option<(usize, Run)> {
        let (wanted, care) = whose.pattern(user);
        for (word_index, word) in self.open.iter().enumerate().rev() {
            let mut open = word.load(Ordering::Relaxed);
            while let Some(highest) = open.checked_ilog2() {
                open &= !(1 << highest);
                let index = word_index * 64 + highest as usize;
                let of = users.of(index);
                if (of ^ wanted) & care != 0 {
                    continue;
                }
                let Some(claimed) = claim(index) else { continue };
                if of == 0 {
                    users.set(index, user);
                }
                return Some(claimed);
            }
        }
        None
    }

    /// Claims a run for a page, for this user.
    #[inline]
    pub(crate) fn claim_for_page(
        &self,
        whose: Whose,
        user: u8,
        count: u32,
    ) -> Option<(usize, Run)> {
        let claim = |index| self.claim_in(index, count, 1, Placement::Lowest);
        self.claim_of(&self.page_users, (whose, user), claim)
    }

    /// Claims a run for a large block, for this user. If a roomy segment is asked for, that is first one of
    /// its own or nobody's.
    #[inline]
    pub(crate) fn claim_for_block(
        &self,
        whose: Whose,
        user: u8,
        count: u32,
        align: u32,
        placement: Placement,
    ) -> Option<(usize, Run)> {
        if let (Whose::Own, Placement::Roomy) = (whose, placement) {
            let claimed = self.claim_roomy(user, count, align);
            if claimed.is_some() {
                return claimed;
            }
        }
        let claim = |index| self.claim_in(index, count, align, placement);
        self.claim_of(&self.block_users, (whose, user), claim)
    }

    /// Claims a run for a large block in the roomiest of some segments of this user's or nobody's.
    fn claim_roomy(&self, user: u8, count: u32, align: u32) -> Option<(usize, Run)> {
        let users = &self.block_users;
        let is_wanted = |index: &usize| [user, 0].contains(&users.of(*index));
        // Of those with as much room the highest: it was used lately.
        let index = self
            .open_segments()
            .filter(is_wanted)
            .take(ROOMY_SEGMENTS)
            .max_by_key(|index| (self.at(*index).room(), *index))?;
        let claimed = self.claim_in(index, count, align, Placement::Roomy)?;
        if users.of(index) == 0 {
            users.set(index, user);
        }
        Some(claimed)
    }

    /// Claims a run in a segment.
    #[inline(always)]
    fn claim_in(
        &self,
        index: usize,
        count: u32,
        align: u32,
        placement: Placement,
    ) -> Option<(usize, Run)> {
        let segment = self.at(index);
        let run = segment.claim(count, align, placement);
        if segment.free() == 0 {
            self.set_closed(index);
        }
        let run = run?;
        Some((index * SLICES as usize + run.first as usize, run))
    }

    /// Purges a segment; see [`Segment::purge`].
    pub(crate) fn purge(&self, index: usize, all: bool) -> Option<usize> {
        let bytes = self.at(index).purge(all)?;
        // It seemed full meanwhile, and a claim may have closed it.
        self.set_open(index);
        Some(bytes)
    }

    /// Purges what nobody used of a segment; see [`Segment::purge_unused`].
    pub(crate) fn purge_unused(&self, index: usize) {
        if self.at(index).purge_unused() {
            // As above.
            self.set_open(index);
        }
    }

    /// Makes a segment that is free anybody's.
    pub(crate) fn forget_users(&self, index: usize) {
        if self.at(index).is_free() {
            self.block_users.set(index, 0);
            self.page_users.set(index, 0);
        }
    }

    /// Gives a run of slices back.
    pub(crate) fn release(&self, slice: usize, count: u32) {
        self.release_with(Segment::release, slice, count);
    }

    /// The same of slices that were unused for a period already.
    pub(crate) fn release_rested(&self, slice: usize, count: u32) {
        self.release_with(Segment::release_rested, slice, count);
    }

    /// Has a run given back by what says whether its segment was full before.
    #[inline]
    fn release_with(&self, give_back: fn(&Segment, u32, u32) -> bool, slice: usize, count: u32) {
        if give_back(self.of_slice(slice), (slice % SLICES as usize) as u32, count) {
            self.set_open(slice / SLICES as usize);
        }
    }
}
