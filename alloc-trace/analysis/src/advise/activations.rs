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

    /// Those of one origin and one thread.
    #[inline]
    pub(super) fn of(&mut self, origin: OriginIndex, thread: u32) -> &mut Live {
        let number = self.numbers.number(OwnerParts { key: origin, thread, span: 0 }) as usize;
        if number >= self.live.len() {
            self.live.resize_with(number + 1, Live::default);
        }
        &mut self.live[number]
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
        self.newest_lives &= self.newest != Some(event);
        if let Some(part) = self.index(event).and_then(|index| self.parts.get_mut(index)) {
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

    /// Whether a block was made by the last allocation.
    pub(super) fn is_newest(&self, event: u64) -> bool {
        self.newest == Some(event)
    }

    /// Whether a live block is the newest one that is live, as far as that is known: of several in one part only the
    /// last allocation is.
    pub(super) fn is_innermost(&self, event: u64) -> bool {
        let last = self.parts.len().checked_sub(1);
        self.index(event) == last
            && (self.is_newest(event) || self.parts.last().is_some_and(|part| part.live == 1))
    }

    /// How many are live that were made at an event or after it, where an activation began that is still
    /// there; where there are more than `most`, some number that is greater.
    pub(super) fn since(&self, event: u64, most: u64) -> u64 {
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
                    if live.is_innermost(freed) {
                        prop_assert_eq!(all.last(), Some(&freed));
                    }
                    live.remove(freed);
                    all.retain(|&made| made != freed);
                }
            }
        }
    }
}
