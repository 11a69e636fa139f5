//! Limits as they are written on the command line: so much, or so much more than in a baseline.

use alloc_trace_analysis::Growth;

use crate::quantities::{parse_count, parse_size};

/// What a limit allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Allowed {
    /// So much.
    AtMost(f64),
    /// So much more than in the baseline.
    More(Growth),
}

pub(crate) fn parse_size_limit(text: &str) -> Result<Allowed, String> {
    parse(text, |text| parse_size(text).map(|bytes| bytes as f64))
}

pub(crate) fn parse_number_limit(text: &str) -> Result<Allowed, String> {
    parse(text, |text| parse_count(text).map(|number| number as f64))
}

/// Percent of the requests; with a `+` percentage points, for percent of percent mislead.
pub(crate) fn parse_percent_limit(text: &str) -> Result<Allowed, String> {
    match text.trim().strip_prefix('+') {
        Some(more) => parse_share(more).map(|points| Allowed::More(Growth::By(points))),
        None => parse_share(text).map(Allowed::AtMost),
    }
}

/// Percent, without an upper end.
pub(crate) fn parse_growth(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    let percent: Option<f64> = number.parse().ok();
    percent
        .filter(|percent| percent.is_finite() && *percent >= 0.0)
        .ok_or_else(|| format!("`{text}` is no percentage, as 5% is"))
}

/// A part of the whole, in percent.
pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    match parse_growth(text) {
        Ok(percent) if percent <= 100.0 => Ok(percent),
        _ => Err(format!("`{text}` is no number from 0 to 100")),
    }
}

fn parse(text: &str, value: impl Fn(&str) -> Result<f64, String>) -> Result<Allowed, String> {
    let text = text.trim();
    match text.strip_prefix('+') {
        Some(more) if more.ends_with('%') => {
            parse_growth(more).map(|percent| Allowed::More(Growth::Percent(percent)))
        }
        Some(more) => value(more).map(|more| Allowed::More(Growth::By(more))),
        None => value(text).map(Allowed::AtMost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_so_much_or_so_much_more() {
        assert_eq!(parse_size_limit("64KiB"), Ok(Allowed::AtMost(65_536.0)));
        assert_eq!(parse_size_limit("+64KiB"), Ok(Allowed::More(Growth::By(65_536.0))));
        assert_eq!(parse_size_limit("+2.5%"), Ok(Allowed::More(Growth::Percent(2.5))));
        assert_eq!(parse_number_limit("+0"), Ok(Allowed::More(Growth::By(0.0))));
        assert_eq!(parse_percent_limit("+1%"), Ok(Allowed::More(Growth::By(1.0))));
        assert_eq!(parse_percent_limit("99"), Ok(Allowed::AtMost(99.0)));
        for wrong in ["", "+", "5%", "-1", "+-1", "+5 parsec", "+inf%"] {
            assert!(parse_size_limit(wrong).is_err(), "{wrong}");
            assert!(parse_number_limit(wrong).is_err(), "{wrong}");
        }
        for wrong in ["101", "+101", "much", "-1"] {
            assert!(parse_percent_limit(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_growth("150 %"), Ok(150.0));
        assert!(parse_growth("NaN").is_err());
    }
}
