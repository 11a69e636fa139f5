//! Numbers of bytes, as a remedy names them.

/// What has at most so many digits is an exact number, which can be written into a program.
const EXACT_BELOW: u64 = 10_000;

/// A number of bytes: exact where it is short, else to three digits, as `1.0 MiB`.
pub(super) fn in_bytes(bytes: u64) -> String {
    in_units(bytes, f64::round)
}

/// As [`in_bytes`], but never less than it is: a capacity that is a little too small serves nobody.
pub(super) fn at_least_in_bytes(bytes: u64) -> String {
    in_units(bytes, f64::ceil)
}

fn in_units(bytes: u64, rounded: impl Fn(f64) -> f64) -> String {
    match bytes {
        1 => return "1 byte".into(),
        0..EXACT_BELOW => return format!("{bytes} bytes"),
        _ => {}
    }
    let mut value = bytes as f64;
    for unit in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        value /= 1024.0;
        let tenths = rounded(value * 10.0) / 10.0;
        if tenths < 100.0 {
            return format!("{tenths:.1} {unit}");
        }
        // What would be rounded to 1024 is one of the next unit.
        if rounded(value) < 1024.0 {
            return format!("{:.0} {unit}", rounded(value));
        }
    }
    format!("{:.1} EiB", rounded(value / 1024.0 * 10.0) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_numbers_are_exact_and_long_ones_have_units() {
        for (bytes, named, at_least) in [
            (0, "0 bytes", "0 bytes"),
            (1, "1 byte", "1 byte"),
            (9_999, "9999 bytes", "9999 bytes"),
            (65_536, "64.0 KiB", "64.0 KiB"),
            (65_537, "64.0 KiB", "64.1 KiB"),
            (102_348, "99.9 KiB", "100 KiB"),
            (1_048_575, "1.0 MiB", "1.0 MiB"),
            (1_048_576, "1.0 MiB", "1.0 MiB"),
            (300 << 20, "300 MiB", "300 MiB"),
            (u64::MAX, "16.0 EiB", "16.0 EiB"),
        ] {
            assert_eq!((&*in_bytes(bytes), &*at_least_in_bytes(bytes)), (named, at_least));
        }
    }
}
