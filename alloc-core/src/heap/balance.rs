//! What a heap's thread gave back and did not take again, and how the [`purger`] comes to know of it.
//!
//! Blocks that lie free in pages which are in use make no slice unused. So the bytes that go back to
//! pages are counted where batches of them do, and said in steps: what threads have said together
//! decides whether somebody has to look after their heaps when they sleep.

use crate::owner::OwnerU64;
use crate::purger;

/// Bytes that have to come together before they are said: that is one atomic operation.
const STEP_BYTES: u64 = 256 * 1024;

/// The balance of one heap, whose owner alone changes it. All zero to begin with.
#[derive(Debug)]
pub(super) struct Balance {
    /// Bytes given back, less those taken again.
    returned: OwnerU64,
    /// Of these, what was said and not taken back.
    said: OwnerU64,
    /// Of what was said, what had been when the period began.
    old: OwnerU64,
    /// Bytes of others' blocks that were given back and not said yet.
    sent: OwnerU64,
}

impl Balance {
    pub(super) const fn new() -> Self {
        Self {
            returned: OwnerU64::new(0),
            said: OwnerU64::new(0),
            old: OwnerU64::new(0),
            sent: OwnerU64::new(0),
        }
    }

    /// Bytes went back to own pages.
    pub(super) fn give(&self, bytes: u64) {
        let returned = self.returned.get() + bytes;
        self.returned.set(returned);
        let unsaid = returned.saturating_sub(self.said.get());
        if unsaid >= STEP_BYTES {
            self.said.set(returned);
            purger::bytes_were_returned(unsaid as usize);
        }
    }

    /// Bytes were taken from own pages.
    pub(super) fn take(&self, bytes: u64) {
        let returned = self.returned.get().saturating_sub(bytes);
        self.returned.set(returned);
        let excess = self.said.get().saturating_sub(returned);
        if excess >= STEP_BYTES {
            self.take_back(excess);
        }
    }

    /// Bytes went back to others' pages: their threads may be asleep.
    pub(super) fn send(&self, bytes: u64) {
        let sent = self.sent.get() + bytes;
        let is_enough = sent >= STEP_BYTES;
        self.sent.set(if is_enough { 0 } else { sent });
        if is_enough {
            purger::bytes_were_sent(sent as usize);
        }
    }

    /// A period begins, in which the heap gives up what the last one did not need. What was said before
    /// that one needs nobody else.
    pub(super) fn begin_period(&self) {
        let old = self.old.get();
        self.returned.set(self.returned.get().saturating_sub(old));
        self.take_back(old);
        self.old.set(self.said.get());
    }

    /// Somebody looked after the heap, or its thread has ended.
    pub(super) fn clear(&self) {
        self.take_back(self.said.get());
        self.returned.set(0);
    }

    /// Says that so much of what was said no longer holds.
    fn take_back(&self, bytes: u64) {
        if bytes != 0 {
            let said = self.said.get().saturating_sub(bytes);
            self.said.set(said);
            self.old.set(self.old.get().min(said));
            purger::bytes_were_taken_again(bytes as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was said in the end.
    fn said_after(balance: &Balance, change: impl Fn(&Balance)) -> u64 {
        change(balance);
        balance.said.get()
    }

    #[test]
    fn what_goes_back_on_balance_is_said_in_steps() {
        let balance = Balance::new();
        assert_eq!(said_after(&balance, |it| it.give(STEP_BYTES - 1)), 0);
        assert_eq!(said_after(&balance, |it| it.give(1)), STEP_BYTES);
        assert_eq!(said_after(&balance, |it| it.take(STEP_BYTES - 1)), STEP_BYTES);
        assert_eq!(said_after(&balance, |it| it.take(1)), 0);
        // What is taken beyond that was never given back.
        assert_eq!(said_after(&balance, |it| it.take(10 * STEP_BYTES)), 0);
        assert_eq!(said_after(&balance, |it| it.give(3 * STEP_BYTES)), 3 * STEP_BYTES);
        assert_eq!(said_after(&balance, Balance::clear), 0);
        assert_eq!(said_after(&balance, |it| it.give(STEP_BYTES)), STEP_BYTES);
        balance.clear();
    }

    #[test]
    fn what_was_said_counts_for_a_whole_period() {
        let balance = Balance::new();
        balance.give(STEP_BYTES);
        assert_eq!(said_after(&balance, Balance::begin_period), STEP_BYTES);
        balance.give(2 * STEP_BYTES);
        assert_eq!(said_after(&balance, Balance::begin_period), 2 * STEP_BYTES);
        assert_eq!(said_after(&balance, Balance::begin_period), 0);
    }
}
