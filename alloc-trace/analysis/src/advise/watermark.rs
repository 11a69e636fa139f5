//! How far out a thread's stack has unwound between any two of its events.
//!
//! Each event brings a mark: how many outermost frames it shares with the one before (see
//! [`crate::frames`]). What two events have in common is the least mark in between. Only the marks
//! that are less than all later ones can be such a minimum, so a stack of those is all there is to
//! keep: never longer than the deepest backtrace, whatever number of blocks is live.

use crate::frames::Mark;

/// The marks of one thread that later questions can depend on.
#[derive(Debug, Default)]
pub(super) struct Watermark {
    /// The number of an event and its mark, both increasing.
    lows: Vec<(u64, Mark)>,
    events: u64,
}

impl Watermark {
    /// The thread made an event, which has this mark; answers the event's number, from 1.
    #[inline]
    pub(super) fn push(&mut self, mark: Mark) -> u64 {
        self.events += 1;
        while self.lows.last().is_some_and(|&(_, low)| low >= mark) {
            self.lows.pop();
        }
        self.lows.push((self.events, mark));
        self.events
    }

    /// The least mark of all events after this one; the greatest there is where there is none.
    #[inline]
    pub(super) fn least_since(&self, event: u64) -> Mark {
        let index = self.lows.partition_point(|&(number, _)| number <= event);
        self.lows.get(index).map_or(Mark::MAX, |&(_, mark)| mark)
    }

    /// The first event that happened in the activation of a frame that is still there: the last one
    /// that shares less than that frame with the event before.
    #[inline]
    pub(super) fn first_event_of(&self, frame: u32) -> u64 {
        let index = self.lows.partition_point(|&(_, mark)| mark < 2 * frame + 1);
        index.checked_sub(1).and_then(|index| self.lows.get(index)).map_or(1, |&(number, _)| number)
    }

    /// Whether an activation that is still there may have begun after one event, and no later than another.
    #[inline]
    pub(super) fn begins_between(&self, after: u64, until: u64) -> bool {
        let index = self.lows.partition_point(|&(number, _)| number <= after);
        self.lows.get(index).is_some_and(|&(number, _)| number <= until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn answers_are_those_of_a_walk_over_all_marks(
            marks in prop::collection::vec(0_u32..12, 1..60)
        ) {
            let mut watermark = Watermark::default();
            for (index, &mark) in marks.iter().enumerate() {
                let number = watermark.push(mark);
                prop_assert_eq!(number, index as u64 + 1);
                let so_far = &marks[..=index];
                for event in 1..=number {
                    let least = so_far[event as usize..].iter().min().copied();
                    prop_assert_eq!(watermark.least_since(event), least.unwrap_or(Mark::MAX));
                }
                for frame in 0..6 {
                    let begun = so_far.iter().rposition(|&mark| mark < 2 * frame + 1);
                    let first = begun.map_or(1, |index| index as u64 + 1);
                    prop_assert_eq!(watermark.first_event_of(frame), first);
                }
                prop_assert!(watermark.lows.len() <= 12);
            }
        }
    }
}
