//! Classes of size and of lifetime: few enough to look at, each named by its least value.

/// The class of a requested size: powers of two, by the least size that is in it. Zero is a class of
/// its own.
///
/// ```
/// use alloc_trace_analysis::size_class;
///
/// assert_eq!([0, 1, 2, 3, 4, 1023, 1024].map(size_class), [0, 1, 2, 2, 4, 512, 1024]);
/// ```
#[must_use]
pub const fn size_class(bytes: u64) -> u64 {
    match bytes.checked_ilog2() {
        Some(exponent) => 1 << exponent,
        None => 0,
    }
}

/// The class of a lifetime in nanoseconds: 1, 2 and 5 times powers of ten, by the least lifetime that is
/// in it. What is shorter than 100 ns is in the class 0: clocks do not tell it apart well.
///
/// ```
/// use alloc_trace_analysis::lifetime_class;
///
/// assert_eq!([0, 99, 100, 199, 200].map(lifetime_class), [0, 0, 100, 100, 200]);
/// assert_eq!([499, 500, 999, 1000].map(lifetime_class), [200, 500, 500, 1000]);
/// ```
#[must_use]
pub const fn lifetime_class(ns: u64) -> u64 {
    let Some(exponent) = ns.checked_ilog10() else { return 0 };
    if exponent < 2 {
        return 0;
    }
    let power = 10_u64.pow(exponent);
    match ns / power {
        1 => power,
        2..5 => 2 * power,
        _ => 5 * power,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_class_that_begins_at_or_before_it() {
        let around = |value: u64| [value - 1, value, value + 1];
        let mut values: Vec<u64> = (0..64).flat_map(|bit| around(1 << bit)).collect();
        values.extend((0..19).flat_map(|exponent| around(10_u64.pow(exponent))));
        values.push(u64::MAX);
        values.sort_unstable();
        let mut previous = (0, 0);
        for value in values {
            let classes = (size_class(value), lifetime_class(value));
            assert!(classes.0 <= value && classes.1 <= value, "{value}");
            assert!(classes.0 >= previous.0 && classes.1 >= previous.1, "{value}");
            assert_eq!((size_class(classes.0), lifetime_class(classes.1)), classes, "{value}");
            previous = classes;
        }
    }
}
