//! Sizes, times and counts as they are written on the command line: one way for all options.

/// What is understood, for messages and help.
pub(crate) const SIZES: &str = "KiB, MiB, GiB and TiB are powers of 1024, and so are k, M, G and T; kB, MB, \
                                GB and TB are powers of 1000";

/// A number of bytes: `4096`, `1.5MiB`, `64MB`, `4k`. What a fraction leaves of a byte is rounded.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let unit = unit.to_ascii_lowercase();
    let factor = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(format!("no unit of size: `{unit}`; {SIZES}")),
    };
    scaled(number, factor).map_err(|wrong| wrong.told(text, "no size, as 4096, 64KiB or 1.5M are"))
}

/// A number of nanoseconds: `250ms`, `1.5s`, `2min`. It has a unit always, or a forgotten one would be
/// taken for some other; only 0 is the same in each.
pub(crate) fn parse_duration(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" if number == "0" => 1,
        "" => return Err(format!("`{text}` has no unit: ns, us, ms, s, min or h")),
        other => return Err(format!("no unit of time: `{other}`; ns, us, ms, s, min and h are")),
    };
    scaled(number, factor).map_err(|wrong| wrong.told(text, "no time, as 1.5s or 200ms are"))
}

/// A count: `1000`, `1_000`, `1,000`.
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    let digits: String = text.trim().chars().filter(|c| !matches!(c, '_' | ',')).collect();
    digits.parse().map_err(|_| format!("`{text}` is no number"))
}

/// A number, and the unit behind it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    (number.trim_end(), unit)
}

/// Why a number is none.
enum Wrong {
    NoNumber,
    TooLarge,
}

impl Wrong {
    fn told(self, text: &str, what: &str) -> String {
        match self {
            Self::NoNumber => format!("`{text}` is {what}"),
            Self::TooLarge => format!("`{text}` is too large"),
        }
    }
}

/// A decimal number times a factor, without what floating point would lose.
fn scaled(number: &str, factor: u64) -> Result<u64, Wrong> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(Wrong::NoNumber);
    }
    if whole.is_empty() && !number.starts_with('.') {
        return Err(Wrong::NoNumber);
    }
    let whole = whole.trim_start_matches('0');
    if whole.len() > 20 {
        return Err(Wrong::TooLarge);
    }
    let whole: u128 =
        if whole.is_empty() { 0 } else { whole.parse().map_err(|_| Wrong::NoNumber)? };
    // Further digits are less than a byte, or a nanosecond, of the largest unit.
    let digits = &fraction[..fraction.len().min(18)];
    let parts: u128 =
        if digits.is_empty() { 0 } else { digits.parse().map_err(|_| Wrong::NoNumber)? };
    let ten = 10_u128.pow(digits.len() as u32);
    let factor = u128::from(factor);
    let value = whole * factor + (parts * factor + ten / 2) / ten;
    u64::try_from(value).map_err(|_| Wrong::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_and_decimal_units_and_fractions() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512 B", 512),
            ("4k", 4 << 10),
            ("4K", 4 << 10),
            ("1.5MiB", 3 << 19),
            (".5M", 1 << 19),
            ("64MB", 64_000_000),
            ("1kB", 1_000),
            ("2 GB", 2_000_000_000),
            ("1TiB", 1 << 40),
            ("0.1KiB", 102),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for wrong in [
            "",
            ".",
            "k",
            "x",
            "1 parsec",
            "-1",
            "+1",
            "1e3",
            "1.2.3",
            "99999999999G",
            "18446744073709551616",
            "NaN",
            "inf",
            "0x10",
            "999999999999999999999999999",
        ] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_units() {
        for (text, ns) in [
            ("1.5s", 1_500_000_000),
            ("250ms", 250_000_000),
            ("3us", 3_000),
            ("0.5µs", 500),
            ("7ns", 7),
            ("0", 0),
            ("2min", 120_000_000_000),
            ("1h", 3_600_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(ns), "{text}");
        }
        for wrong in ["1", "-1s", "1d", "s", "", "infs"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn counts_may_have_their_thousands_set_apart() {
        assert_eq!(parse_count("1_000"), Ok(1_000));
        assert_eq!(parse_count("1,000,000"), Ok(1_000_000));
        assert!(parse_count("many").is_err() && parse_count("").is_err());
    }
}
