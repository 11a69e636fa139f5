//! What is told apart at a call site: what its blocks are the memory of.
//!
//! One line can ask for a list and for what it holds, as `list.push(Box::new(1))` does. The sizes, the number and
//! the lives of the two have nothing to do with each other, so each is judged by itself.

use crate::holder::Holder;
use crate::sites::SiteIndex;

/// A call site, and what some of its blocks are the memory of: a number in [`Origins`].
pub(super) type OriginIndex = u32;

/// All that are met.
#[derive(Debug)]
pub(super) struct Origins {
    /// By call site, and by holder; the last of these is for what is not known.
    numbers: Vec<[OriginIndex; Holder::COUNT + 1]>,
    origins: Vec<Origin>,
}

#[derive(Debug)]
struct Origin {
    holder: Option<Holder>,
    /// How many blocks were made, those left out that went on in others.
    blocks: u64,
}

impl Origins {
    /// None of so many call sites.
    pub(super) fn new(sites: usize) -> Self {
        let numbers = vec![[OriginIndex::MAX; Holder::COUNT + 1]; sites];
        Self { numbers, origins: Vec::new() }
    }

    /// The number of an origin, and whether it is new.
    #[inline]
    pub(super) fn number(
        &mut self,
        site: SiteIndex,
        holder: Option<Holder>,
    ) -> (OriginIndex, bool) {
        let which = holder.map_or(Holder::COUNT, |holder| holder as usize);
        let next = self.origins.len() as OriginIndex;
        let Some(number) = self.numbers.get_mut(site as usize).map(|of_site| &mut of_site[which])
        else {
            return (OriginIndex::MAX, false);
        };
        let is_new = *number == OriginIndex::MAX;
        if is_new {
            *number = next;
            self.origins.push(Origin { holder, blocks: 0 });
        }
        (*number, is_new)
    }

    /// What the blocks of an origin are the memory of, as far as that is known.
    pub(super) fn holder(&self, origin: OriginIndex) -> Option<Holder> {
        self.origins.get(origin as usize)?.holder
    }

    /// A block is made; answers how many there were before.
    #[inline]
    pub(super) fn begin(&mut self, origin: OriginIndex) -> u64 {
        let Some(origin) = self.origins.get_mut(origin as usize) else { return 0 };
        origin.blocks += 1;
        origin.blocks - 1
    }

    /// A block counts as not made.
    pub(super) fn take_back(&mut self, origin: OriginIndex) {
        if let Some(origin) = self.origins.get_mut(origin as usize) {
            origin.blocks = origin.blocks.saturating_sub(1);
        }
    }
}
