//! Numbers as a person reads them.

/// A number of bytes in the unit that leaves at most four digits: `12.3 MiB`, `512 B`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be rounded to 1024 is one of the next unit.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if value < 99.95 { format!("{value:.1} {name}") } else { format!("{value:.0} {name}") }
}

/// A time in the unit that leaves at most four digits: `12.3 ms`, `512 ns`.
#[must_use]
pub fn duration(ns: u64) -> String {
    const UNITS: [&str; 3] = ["µs", "ms", "s"];
    if ns < 1000 {
        return format!("{ns} ns");
    }
    let mut value = ns as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    three_digits(value, name)
}

/// A value below a thousand with its unit.
fn three_digits(value: f64, unit: &str) -> String {
    if value < 9.995 {
        format!("{value:.2} {unit}")
    } else if value < 99.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// A sum of times, which can be far more than a program runs: as [`duration`] below ten thousand seconds, from
/// there on in hours, days and years of 365 days, `12.3 h`, and in at most four digits up to 9999 years.
#[must_use]
pub fn summed_time(ns: u128) -> String {
    const UNITS: [(&str, f64); 3] = [("h", 3_600.0), ("d", 86_400.0), ("y", 31_536_000.0)];
    if ns < 9_999_500_000_000 {
        return duration(u64::try_from(ns).unwrap_or(u64::MAX));
    }
    let seconds = ns as f64 / 1e9;
    // What would be rounded to 1000 is one of the next unit.
    let fitting = UNITS.into_iter().find(|(_, unit)| seconds / unit < 999.5);
    let (name, unit) = fitting.unwrap_or(UNITS[2]);
    let value = seconds / unit;
    three_digits(value, name)
}

/// A count with its thousands set apart: `1,234,567`.
#[must_use]
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count and what is counted: `1 block`, `1,234 blocks`.
#[must_use]
pub fn counted(number: u64, singular: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {singular}{plural}", count(number))
}

/// A part of a whole: `12.5 %`.
#[must_use]
pub fn share<N: Into<u128>>(part: N, whole: N) -> String {
    let (part, whole) = (part.into(), whole.into());
    if whole == 0 {
        return "0.0 %".into();
    }
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_at_most_four_digits() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (102_348, "99.9 KiB"),
            (102_399, "100 KiB"),
            (1_048_575, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (value, text) in cases {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn times_have_at_most_four_digits() {
        let cases = [
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (999_999, "1.00 ms"),
            (12_345_678, "12.3 ms"),
            (3_600_000_000_000, "3600 s"),
        ];
        for (value, text) in cases {
            assert_eq!(duration(value), text);
        }
    }

    #[test]
    fn counts_have_their_thousands_apart() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567")] {
            assert_eq!(count(value), text);
        }
        assert_eq!(counted(1, "block"), "1 block");
        assert_eq!(counted(0, "block"), "0 blocks");
        assert_eq!(share(1_u64, 8), "12.5 %");
        assert_eq!(share(0_u64, 0), "0.0 %");
    }

    #[test]
    fn summed_times_have_at_most_four_digits() {
        let second = 1_000_000_000;
        let cases = [
            (999, "999 ns"),
            (999 * second, "999 s"),
            (9_999 * second, "9999 s"),
            (10_000 * second, "2.78 h"),
            (36 * 3_600 * second, "36.0 h"),
            (999 * 3_600 * second + 1_799 * second, "999 h"),
            (999 * 3_600 * second + 1_800 * second, "41.6 d"),
            (u128::from(u64::MAX), "585 y"),
            (9_999 * 31_536_000 * second, "9999 y"),
        ];
        for (value, text) in cases {
            assert_eq!(summed_time(value), text);
        }
    }
}
