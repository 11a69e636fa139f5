//! Which span each live block of a thread was made in.
//!
//! A block is known by the number of its allocation among its thread's events. So what is kept is where
//! another span began to be the thread's, and how many blocks from there on are live: nothing of a block, and
//! of a thread that is in no span nothing at all.

use crate::span_lives::{NO_SPAN, SpanLives};

/// The spans that one thread's live blocks were made in.
#[derive(Debug, Default)]
pub(super) struct MadeIn {
    /// By the first event, increasing; the last one is where new blocks go.
    parts: Vec<Part>,
    /// How many of them have no live block.
    empty: usize,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    first_event: u64,
    span: u64,
    live: u64,
}

/// So many parts may be empty beyond as many as are not.
const MOST_EMPTY: usize = 16;

impl MadeIn {
    /// A block was made by an event of the thread, later than all before, in a span or in [`NO_SPAN`].
    #[inline]
    pub(super) fn add(&mut self, event: u64, span: u64, lives: &mut SpanLives) {
        match self.parts.last_mut() {
            Some(last) if last.span == span => {
                self.empty -= usize::from(last.live == 0);
                last.live += 1;
            }
            None if span == NO_SPAN => {}
            _ => self.begin(event, span, lives),
        }
    }

    fn begin(&mut self, event: u64, span: u64, lives: &mut SpanLives) {
        lives.hold(span);
        self.parts.push(Part { first_event: event, span, live: 1 });
        if self.empty > self.parts.len() / 2 + MOST_EMPTY {
            self.parts.retain(|part| {
                if part.live == 0 {
                    lives.release(part.span);
                }
                part.live > 0
            });
            self.empty = 0;
        }
    }

    /// The span that a live block was made in, or [`NO_SPAN`].
    #[inline]
    pub(super) fn of(&self, event: u64) -> u64 {
        self.index(event).and_then(|index| self.parts.get(index)).map_or(NO_SPAN, |part| part.span)
    }

    /// A block is gone.
    #[inline]
    pub(super) fn remove(&mut self, event: u64) {
        if let Some(index) = self.index(event)
            && let Some(part) = self.parts.get_mut(index)
            && part.live > 0
        {
            part.live -= 1;
            self.empty += usize::from(part.live == 0);
        }
    }

    fn index(&self, event: u64) -> Option<usize> {
        let last = self.parts.last()?;
        if last.first_event <= event {
            return Some(self.parts.len() - 1);
        }
        self.parts.partition_point(|part| part.first_event <= event).checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_of_the_span_that_their_thread_was_in_then() {
        let (mut made_in, mut lives) = (MadeIn::default(), SpanLives::default());
        made_in.add(1, NO_SPAN, &mut lives);
        assert!(made_in.parts.is_empty(), "no span, and nothing kept");
        for (event, span) in [(3, 7), (4, 7), (6, NO_SPAN), (9, 8), (12, 8)] {
            made_in.add(event, span, &mut lives);
        }
        let of = |made_in: &MadeIn| [1, 3, 4, 6, 9, 12].map(|event| made_in.of(event));
        assert_eq!(of(&made_in), [NO_SPAN, 7, 7, NO_SPAN, 8, 8]);
        made_in.remove(6);
        made_in.remove(3);
        assert_eq!(of(&made_in), [NO_SPAN, 7, 7, NO_SPAN, 8, 8]);
        assert_eq!((made_in.parts.len(), made_in.empty), (3, 1));
    }

    #[test]
    fn what_is_kept_is_for_live_blocks_only() {
        let (mut made_in, mut lives) = (MadeIn::default(), SpanLives::default());
        made_in.add(1, 1, &mut lives);
        for event in 2..10_000 {
            made_in.add(event, event, &mut lives);
            if event > 3 {
                made_in.remove(event - 1);
            }
        }
        assert!(made_in.parts.len() <= 2 * MOST_EMPTY + 4, "{}", made_in.parts.len());
        assert_eq!([1, 2, 9_999].map(|event| made_in.of(event)), [1, 2, 9_999]);
    }
}
