//! The classes of size and lifetime, numbered, with both of their ends.

use crate::intervals::{lifetime_class, size_class};

/// How many numbers of classes of lifetimes there are; some stand for none.
pub(super) const LIFETIMES: u32 = 65;

/// The number of the class that a size is in.
pub(super) const fn of_size(bytes: u64) -> u32 {
    number(size_class(bytes))
}

/// The least and the greatest size of a class.
pub(super) fn sizes(number: u32) -> (u64, u64) {
    ends(number, size_class)
}

/// The number of the class that a lifetime in nanoseconds is in.
pub(super) const fn of_lifetime(ns: u64) -> u32 {
    number(lifetime_class(ns))
}

/// The least and the greatest lifetime of a class.
pub(super) fn lifetimes(number: u32) -> (u64, u64) {
    ends(number, lifetime_class)
}

/// Each class begins at twice the beginning of the one before, or beyond.
const fn number(class: u64) -> u32 {
    match class.checked_ilog2() {
        Some(exponent) => exponent + 1,
        None => 0,
    }
}

/// The ends of the class with a number, where `class` tells a value's.
fn ends(number: u32, class: impl Fn(u64) -> u64) -> (u64, u64) {
    // The greatest value that is not beyond all classes with this number is in the last of them.
    let within = |number: u32| u64::MAX.checked_shr(64_u32.saturating_sub(number)).unwrap_or(0);
    let min = class(within(number));
    // The next class begins where a value is not in this one any more: no class is longer than it
    // begins, but for the first of lifetimes.
    let (mut inside, mut outside) = (min, min.max(100).saturating_mul(4));
    if class(outside) == min {
        return (min, u64::MAX);
    }
    while outside - inside > 1 {
        let middle = inside + (outside - inside) / 2;
        if class(middle) == min { inside = middle } else { outside = middle }
    }
    (min, inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_class_are_in_it_and_what_is_next_to_them_is_not() {
        for value in (0..64).flat_map(|bit| [1_u64 << bit, u64::MAX >> bit]).chain([0, 100, 5_000])
        {
            for (of, ends) in [
                (of_size as fn(u64) -> u32, sizes as fn(u32) -> (u64, u64)),
                (of_lifetime, lifetimes),
            ] {
                let (min, max) = ends(of(value));
                assert!((min..=max).contains(&value), "{value}: {min} to {max}");
                assert_eq!((of(min), of(max)), (of(value), of(value)));
                assert!(min == 0 || of(min - 1) != of(value), "{value}");
                assert!(max == u64::MAX || of(max + 1) != of(value), "{value}");
            }
        }
    }
}
