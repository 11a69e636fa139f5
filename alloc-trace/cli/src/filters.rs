//! The filters that all reading commands share, as they are written on the command line.

use std::ops::Bound;

use alloc_trace_analysis::{EventKind, Filter, Moment, Regex};
use clap::{Args, ValueEnum};

use crate::quantities::{parse_duration, parse_size};

/// Which part of a recording is looked at.
///
/// A filter picks requests for memory; what they obtained goes with them until it is released.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters, by what was requested; several kinds must all hold")]
pub(crate) struct FilterArguments {
    /// By this thread, by its number or its name; can be given several times
    #[arg(long, value_name = "THREAD")]
    thread: Vec<String>,

    /// In spans of this name and those made in them; can be given several times
    #[arg(long, value_name = "NAME")]
    span: Vec<String>,

    /// At call sites whose function or file:line matches; can be given several times
    #[arg(long, value_name = "REGEX", value_parser = parse_regex)]
    site: Vec<Regex>,

    /// Of this kind; can be given several times
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Vec<Kind>,

    /// Of these sizes: MIN..MAX without MAX, MIN..=MAX with it, MIN.. or ..MAX, or one size; as in
    /// 4096, 64KiB, 1.5M or 2GB (KiB and k are 1024, kB is 1000)
    #[arg(long, value_name = "MIN..MAX", value_parser = parse_sizes)]
    size: Option<Range>,

    /// Whose block lived so long until it was freed or reallocated, or else until the recording ended, as
    /// in 1ms.. or ..10us; ns, us, ms, s, min and h are understood
    #[arg(long, value_name = "MIN..MAX", value_parser = parse_lifetimes)]
    lifetime: Option<Range>,

    /// From this time on: as in 1.5s or 200ms from the beginning, `peak`, or a marker's text
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    from: Option<Moment>,

    /// Up to this time
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    to: Option<Moment>,

    /// Whose block was live at this time
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    live_at: Option<Moment>,
}

impl FilterArguments {
    /// Whether they pick what was live at a time.
    pub(crate) const fn has_live_at(&self) -> bool {
        self.live_at.is_some()
    }

    pub(crate) fn filter(&self) -> Filter {
        let mut filter = Filter::default();
        for thread in &self.thread {
            filter = filter.thread(thread);
        }
        for span in &self.span {
            filter = filter.span(span);
        }
        for site in &self.site {
            filter = filter.site(site.clone());
        }
        for kind in &self.kind {
            filter = filter.kind(kind.event_kind());
        }
        if let Some(sizes) = self.size {
            filter = filter.sizes(sizes);
        }
        if let Some(lifetimes) = self.lifetime {
            filter = filter.lifetimes(lifetimes);
        }
        if let Some(from) = &self.from {
            filter = filter.from(from.clone());
        }
        if let Some(to) = &self.to {
            filter = filter.to(to.clone());
        }
        if let Some(live_at) = &self.live_at {
            filter = filter.live_at(live_at.clone());
        }
        filter
    }

    /// Whether call sites must be known by name.
    pub(crate) fn asks_for_sites(&self) -> bool {
        !self.site.is_empty()
    }
}

/// The kinds of heap event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Kind {
    /// A request by `alloc`
    Alloc,
    /// A request by `alloc_zeroed`
    AllocZeroed,
    /// A request by `realloc`
    Realloc,
    /// A free; of `events` only, for elsewhere a free goes with what it releases
    Free,
}

impl Kind {
    const fn event_kind(self) -> EventKind {
        match self {
            Self::Alloc => EventKind::Alloc,
            Self::AllocZeroed => EventKind::AllocZeroed,
            Self::Realloc => EventKind::Realloc,
            Self::Free => EventKind::Free,
        }
    }
}

/// A range, written as Rust writes ranges.
type Range = (Bound<u64>, Bound<u64>);

fn parse_range(text: &str, parse: fn(&str) -> Result<u64, String>) -> Result<Range, String> {
    let Some((low, high)) = text.split_once("..") else {
        let value = parse(text)?;
        return Ok((Bound::Included(value), Bound::Included(value)));
    };
    let low = match low {
        "" => Bound::Unbounded,
        low => Bound::Included(parse(low)?),
    };
    let high = match (high, high.strip_prefix('=')) {
        ("", _) => Bound::Unbounded,
        (_, Some(high)) => Bound::Included(parse(high)?),
        (high, None) => Bound::Excluded(parse(high)?),
    };
    let is_empty = match (low, high) {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low), Bound::Excluded(high)) => low >= high,
        (_, high) => high == Bound::Excluded(0),
    };
    if is_empty {
        return Err(format!(
            "nothing is in this range: {} is not below {}",
            text.split("..").next().filter(|low| !low.is_empty()).unwrap_or("0"),
            text.rsplit("..").next().unwrap_or_default().trim_start_matches('=')
        ));
    }
    Ok((low, high))
}

fn parse_sizes(text: &str) -> Result<Range, String> {
    parse_range(text, parse_size)
}

fn parse_lifetimes(text: &str) -> Result<Range, String> {
    parse_range(text, parse_duration)
}

/// A time, `peak`, or else the text of a marker.
fn parse_moment(text: &str) -> Result<Moment, String> {
    if text == "peak" {
        return Ok(Moment::Peak);
    }
    let is_number = text.trim().parse::<f64>().is_ok();
    match parse_duration(text) {
        Ok(ns) => Ok(Moment::Ns(ns)),
        Err(reason) if is_number => Err(reason),
        Err(_) => Ok(Moment::Marker(text.to_owned())),
    }
}

fn parse_regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_ranges_are_written_as_rust_writes_them() {
        let range = parse_sizes;
        assert_eq!(range("1..2"), Ok((Bound::Included(1), Bound::Excluded(2))));
        assert_eq!(range("1..=2KiB"), Ok((Bound::Included(1), Bound::Included(2048))));
        assert_eq!(range("..1M"), Ok((Bound::Unbounded, Bound::Excluded(1 << 20))));
        assert_eq!(range("8"), Ok((Bound::Included(8), Bound::Included(8))));
        assert_eq!(range(".."), Ok((Bound::Unbounded, Bound::Unbounded)));
        assert!(range("5..=5").is_ok() && range("..=0").is_ok());
        for wrong in ["5..5", "5..1", "5..=4", "..0", "1k..1000"] {
            assert!(range(wrong).is_err_and(|error| error.contains("nothing is in")), "{wrong}");
        }
        for wrong in ["", "x", "1..x", "1 parsec", "-1", "99999999999G"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_units_and_anything_else_is_a_marker() {
        for (text, ns) in
            [("1.5s", 1_500_000_000), ("200ms", 200_000_000), ("3us", 3_000), ("7ns", 7)]
        {
            assert_eq!(parse_moment(text), Ok(Moment::Ns(ns)), "{text}");
        }
        assert_eq!(parse_moment("peak"), Ok(Moment::Peak));
        assert_eq!(parse_moment("warm up"), Ok(Moment::Marker("warm up".into())));
        assert_eq!(parse_moment("phases"), Ok(Moment::Marker("phases".into())));
        assert!(parse_moment("15").is_err(), "a forgotten unit is no marker");
        assert_eq!(parse_lifetimes("1ms.."), Ok((Bound::Included(1_000_000), Bound::Unbounded)));
        for wrong in ["1", "-1s", "1d", "s"] {
            assert!(parse_lifetimes(wrong).is_err(), "{wrong}");
        }
    }
}
