//! The live blocks of one call site and one thread, by the activations that they were made in.
//!
//! What is asked is how many of them are live that were made since an activation began that is still there. Those
//! beginnings are the events in the thread's [`Watermark`], no more than its stack is deep. So blocks that none
//! of these lies between are one part, of which it is enough to know how many they are: nothing is kept of a
//! block.

use super::origins::OriginIndex;
use super::watermark::Watermark;
use crate::call_tree::Place;
use crate::owners::{OwnerParts, Owners};

/// A call site and what some of its blocks are the memory of, and a thread that makes such: a number in
/// [`LiveByThread`].
pub(super) type KinIndex = u32;

/// The live blocks of all, by origin and thread.
#[derive(Debug)]
pub(super) struct LiveByThread {
    numbers: Owners,
    live: Vec<Live>,
}

impl LiveByThread {
    pub(super) fn new() -> Self {
        Self { numbers: Owners::new(), live: Vec::new() }
    }

    /// The number of those of one origin and one thread.
    pub(super) fn number(&mut self, origin: OriginIndex, thread: u32) -> KinIndex {
        let number = self.numbers.number(OwnerParts { key: origin, thread, span: 0 });
        if number as usize >= self.live.len() {
            self.live.resize_with(number as usize + 1, Live::default);
        }
        number
    }

    /// Those that have a number.
    #[inline]
    pub(super) fn of(&mut self, kin: KinIndex) -> &mut Live {
        &mut self.live[kin as usize]
    }

    /// What whoever asks for those that have a number waits for: asked for many at once, by whoever throws
    /// it away.
    #[inline]
    pub(super) fn touch(&self, kin: KinIndex) -> u64 {
        self.live.get(kin as usize).map_or(0, |live| live.parts.len() as u64)
    }

    /// What is waited for once [`Self::touch`] is there.
    #[inline]
    pub(super) fn touch_parts(&self, kin: KinIndex) -> u64 {
        let parts = self.live.get(kin as usize).and_then(|live| live.parts.last());
        parts.map_or(0, |part| part.live)
    }
}

/// The live blocks of one call site and one thread.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// By the first event, increasing. Of the last one at least one block is live.
    parts: Vec<Part>,
    /// The number of the last allocation, whether that block is still live or not.
    newest: Option<u64>,
    newest_lives: bool,
    /// The place of that.
    place: Option<Place>,
}

/// What is told of a block that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    /// Whether the last allocation had made it.
    pub(super) newest: bool,
    /// Whether it was the newest one that was live, as far as that is known: of several in one part only the last
    /// allocation is.
    pub(super) innermost: bool,
    /// How many were live, itself included, that were made since an activation began that is still there; where they
    /// are more than was asked for, some number that is greater. 0 where no activation was asked for.
    pub(super) at_once: u64,
}

/// Blocks that no beginning of an activation that is still there lies between.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// The number of the first allocation.
    first_event: u64,
    live: u64,
}

impl Live {
    /// A block was made by the thread's last event.
    pub(super) fn add(&mut self, event: u64, place: Place, watermark: &Watermark) {
        self.newest = Some(event);
        self.newest_lives = true;
        self.place = Some(place);
        while let [.., before, last] = self.parts.as_mut_slice() {
            if watermark.begins_between(before.first_event, last.first_event) {
                break;
            }
            before.live += last.live;
            self.parts.pop();
        }
        self.parts.push(Part { first_event: event, live: 1 });
    }

    /// A block is gone.
    pub(super) fn remove(&mut self, event: u64) {
        self.remove_from(self.index(event), event);
    }

    /// A block is gone that was made in a part, and [what was asked for](Ends) of it is told.
    pub(super) fn end(&mut self, event: u64, activation: Option<u64>, most: u64) -> Ends {
        let at = self.index(event);
        let last = self.parts.len().checked_sub(1);
        let newest = self.newest == Some(event);
        let alone = || self.parts.last().is_some_and(|part| part.live == 1);
        let innermost = at == last && (newest || alone());
        let at_once = activation.map_or(0, |activation| self.since(activation, most));
        self.remove_from(at, event);
        Ends { newest, innermost, at_once }
    }

    fn remove_from(&mut self, index: Option<usize>, event: u64) {
        self.newest_lives &= self.newest != Some(event);
        if let Some(part) = index.and_then(|index| self.parts.get_mut(index)) {
            part.live = part.live.saturating_sub(1);
        }
        while self.parts.last().is_some_and(|last| last.live == 0) {
            self.parts.pop();
        }
    }

    /// A block goes on in the one that was made last, which counts as not made.
    pub(super) fn carry_on(&mut self, old: u64, place: Place, new: u64) {
        self.remove(new);
        (self.newest, self.newest_lives, self.place) = (Some(old), true, Some(place));
    }

    /// The place of the last allocation, where that block is live no more.
    pub(super) fn place_of_the_last_one(&self) -> Option<Place> {
        self.place.filter(|_| !self.newest_lives)
    }

    /// How many are live that were made at an event or after it, where an activation began that is still
    /// there; where there are more than `most`, some number that is greater.
    fn since(&self, event: u64, most: u64) -> u64 {
        let mut sum = 0;
        for part in self.parts.iter().rev() {
            if part.first_event < event || sum > most {
                break;
            }
            sum += part.live;
        }
        sum
    }

    fn index(&self, event: u64) -> Option<usize> {
        self.parts.partition_point(|part| part.first_event <= event).checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn answers_are_those_of_a_list_of_all_live_blocks(
            // A mark, whether a block is made, and which one goes.
            steps in prop::collection::vec((0_u32..12, any::<bool>(), 0_usize..64), 1..200)
        ) {
            let (mut watermark, mut live) = (Watermark::default(), Live::default());
            let mut all: Vec<u64> = Vec::new();
            for (mark, makes, which) in steps {
                let event = watermark.push(mark);
                if makes {
                    live.add(event, Place::ROOT, &watermark);
                    all.push(event);
                    prop_assert!(live.parts.len() <= 14, "no deeper than the stack");
                } else if !all.is_empty() {
                    let freed = all[which % all.len()];
                    for frame in 0..6 {
                        let since = watermark.first_event_of(frame);
                        let expected = all.iter().filter(|&&made| made >= since).count() as u64;
                        prop_assert_eq!(live.since(since, u64::MAX), expected);
                    }
                    let since = watermark.first_event_of(1);
                    let at_once = all.iter().filter(|&&made| made >= since).count() as u64;
                    let newest = live.newest == Some(freed);
                    let ends = live.end(freed, Some(since), u64::MAX);
                    prop_assert_eq!((ends.newest, ends.at_once), (newest, at_once));
                    if ends.innermost {
                        prop_assert_eq!(all.last(), Some(&freed));
                    }
                    all.retain(|&made| made != freed);
                }
            }
        }
    }
}
