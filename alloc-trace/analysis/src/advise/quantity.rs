//! Numbers of bytes, as a remedy names them.

/// What has at most so many digits is an exact number, which can be written into a program.
const EXACT_BELOW: u64 = 10_000;

/// A number of bytes to the last digit: what is to be reserved, which a little less would not do for.
pub(super) fn exact(bytes: u64) -> String {
    if bytes == 1 { "1 byte".into() } else { format!("{bytes} bytes") }
}

/// A number of bytes: exact where it is short, else to three digits, as `1.0 MiB`.
pub(super) fn in_bytes(bytes: u64) -> String {
    if bytes < EXACT_BELOW {
        return exact(bytes);
    }
    let mut value = bytes as f64;
    for unit in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        value /= 1024.0;
        let tenths = (value * 10.0).round() / 10.0;
        if tenths < 100.0 {
            return format!("{tenths:.1} {unit}");
        }
        // What would be rounded to 1024 is one of the next unit.
        if value.round() < 1024.0 {
            return format!("{:.0} {unit}", value.round());
        }
    }
    format!("{:.1} EiB", (value / 1024.0 * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_numbers_are_exact_and_long_ones_have_units() {
        for (bytes, named) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (9_999, "9999 bytes"),
            (65_536, "64.0 KiB"),
            (65_537, "64.0 KiB"),
            (102_348, "99.9 KiB"),
            (1_048_575, "1.0 MiB"),
            (1_048_576, "1.0 MiB"),
            (300 << 20, "300 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(in_bytes(bytes), named);
        }
        assert_eq!((&*exact(1), &*exact(65_537)), ("1 byte", "65537 bytes"));
    }
}
