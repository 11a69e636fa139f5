//! From stamps to nanoseconds.

/// A stamp and the time of `CLOCK_MONOTONIC` read beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Anchor {
    /// The stamp.
    pub ticks: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
}

/// Converts the stamps of one recording to nanoseconds since it began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clock {
    start_ticks: u64,
    ns_per_tick: f64,
}

impl Clock {
    /// A clock that begins at `start`, its rate taken over the span from `start` to `last`, the
    /// reading furthest away.
    ///
    /// Where the two readings do not allow a rate, a tick counts as a nanosecond.
    #[must_use]
    pub fn new(start: Anchor, last: Anchor) -> Self {
        let ticks = last.ticks.saturating_sub(start.ticks);
        let ns = last.monotonic_ns.saturating_sub(start.monotonic_ns);
        let ns_per_tick = if ticks == 0 || ns == 0 { 1.0 } else { ns as f64 / ticks as f64 };
        Self { start_ticks: start.ticks, ns_per_tick }
    }

    /// Nanoseconds from the beginning of the recording to `stamp`; 0 for one before it.
    ///
    /// At most [`i64::MAX`], which is 292 years: two times can be added, whatever a damaged file says.
    #[must_use]
    #[inline]
    pub fn ns(&self, stamp: u64) -> u64 {
        // The cast saturates, and nothing here is negative.
        (stamp.saturating_sub(self.start_ticks) as f64 * self.ns_per_tick) as i64 as u64
    }

    /// How many nanoseconds so many ticks take, rounded down.
    #[must_use]
    pub fn span_ns(&self, ticks: u128) -> u128 {
        if self.ns_per_tick == 1.0 {
            return ticks;
        }
        // The cast saturates, and nothing here is negative.
        (ticks as f64 * self.ns_per_tick) as u128
    }

    /// The first stamp at or after `ns` nanoseconds from the beginning.
    #[must_use]
    pub fn stamp(&self, ns: u64) -> u64 {
        self.start_ticks.saturating_add((ns as f64 / self.ns_per_tick).ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_from_two_readings() {
        let clock = Clock::new(
            Anchor { ticks: 1_000, monotonic_ns: 5_000 },
            Anchor { ticks: 4_000, monotonic_ns: 6_000 },
        );
        assert_eq!(clock.ns(1_000), 0);
        assert_eq!(clock.ns(2_500), 500);
        assert_eq!(clock.ns(3), 0);
        assert_eq!(clock.stamp(500), 2_500);
        assert_eq!(clock.span_ns(3_000_002), 1_000_000);
        assert_eq!(clock.span_ns(3 << 80), 1 << 80);
    }

    #[test]
    fn readings_without_a_span_fall_back_to_nanoseconds() {
        let start = Anchor { ticks: 7, monotonic_ns: 7 };
        assert_eq!(Clock::new(start, start).ns(10), 3);
    }

    #[test]
    fn two_times_of_any_stamps_can_be_added() {
        let start = Anchor::default();
        for last in [start, Anchor { ticks: 1, monotonic_ns: u64::MAX }] {
            let clock = Clock::new(start, last);
            assert_eq!(clock.ns(u64::MAX), i64::MAX as u64);
            assert!(clock.ns(u64::MAX).checked_add(clock.ns(u64::MAX - 1)).is_some());
        }
    }
}
