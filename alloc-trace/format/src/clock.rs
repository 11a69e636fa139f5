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
    /// How much of a nanosecond a tick is, of 2^64 and rounded up; 0 where it is a whole one or more.
    fraction: u64,
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
        let part = (u128::from(ns) << 64).checked_div(u128::from(ticks)).unwrap_or(0);
        // Rounded up: what is a whole number of nanoseconds comes out as that. A whole one does not fit.
        let fraction = if ns_per_tick < 1.0 { u64::try_from(part + 1).unwrap_or(0) } else { 0 };
        Self { start_ticks: start.ticks, fraction, ns_per_tick }
    }

    /// Nanoseconds from the beginning of the recording to `stamp`, rounded down; 0 for one before it.
    ///
    /// At most [`i64::MAX`], which is 292 years: two times can be added, whatever a damaged file says.
    #[must_use]
    #[inline]
    pub fn ns(&self, stamp: u64) -> u64 {
        let ticks = stamp.saturating_sub(self.start_ticks);
        if self.fraction == 0 {
            return self.ns_of_long_ticks(ticks);
        }
        // Asked of every event: a product is cheaper than to and from a floating point number.
        let ns = (u128::from(ticks) * u128::from(self.fraction)) >> 64;
        (ns as u64).min(i64::MAX as u64)
    }

    /// Where a tick is a nanosecond or more.
    fn ns_of_long_ticks(&self, ticks: u64) -> u64 {
        if self.ns_per_tick == 1.0 {
            return ticks.min(i64::MAX as u64);
        }
        // The cast saturates, and nothing here is negative.
        (ticks as f64 * self.ns_per_tick) as i64 as u64
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
        assert_eq!(clock.ns(2_499), 499);
    }

    #[test]
    fn a_tick_may_be_longer_than_a_nanosecond_or_as_long() {
        let last = |monotonic_ns| Anchor { ticks: 1_000, monotonic_ns };
        for (ns, expected) in [(41_667, 41), (1_000, 1), (999, 0), (333, 0)] {
            let clock = Clock::new(Anchor::default(), last(ns));
            assert_eq!(clock.ns(1), expected, "{ns}");
            let many = 1_000_000_000_000;
            assert!(clock.ns(many).abs_diff(many / 1_000 * ns) <= 1, "{ns}");
        }
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
