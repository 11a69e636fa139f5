//! Who makes blocks: a thread, with one backtrace.
//!
//! All that a block is told apart by follows from the two. So a live block keeps one number, and what that leads to
//! is worked out once.

use super::activations::KinIndex;
use super::origins::OriginIndex;
use crate::call_tree::Place;
use crate::owners::{OwnerParts, Owners};

/// A maker of blocks: a number in [`Makers`].
pub(super) type MakerIndex = u32;

/// A thread and a backtrace that it makes blocks with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Maker {
    /// The place of its backtrace; [`Place::CUT`] where that is not known.
    pub(super) place: Place,
    pub(super) thread: u32,
    pub(super) origin: OriginIndex,
    pub(super) kin: KinIndex,
}

impl Maker {
    /// Stands for none.
    const NONE: Self =
        Self { place: Place::CUT, thread: u32::MAX, origin: OriginIndex::MAX, kin: KinIndex::MAX };
}

/// All makers that were met.
#[derive(Debug)]
pub(super) struct Makers {
    numbers: Owners,
    makers: Vec<Maker>,
}

impl Makers {
    pub(super) fn new() -> Self {
        Self { numbers: Owners::new(), makers: Vec::new() }
    }

    /// The number of a thread with a backtrace; one that is new is what `make` says.
    #[inline]
    pub(super) fn number(
        &mut self,
        place: Place,
        thread: u32,
        make: impl FnOnce() -> Maker,
    ) -> MakerIndex {
        let parts = OwnerParts { key: place.index() as u32, thread, span: 0 };
        let number = self.numbers.number(parts);
        if number as usize == self.makers.len() {
            self.makers.push(make());
        }
        number
    }

    /// What a number stands for.
    #[inline]
    pub(super) fn get(&self, maker: MakerIndex) -> Maker {
        self.makers.get(maker as usize).copied().unwrap_or(Maker::NONE)
    }
}
