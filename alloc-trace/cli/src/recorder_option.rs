//! An option of the recorder, as `record` passes it on in `ALLOC_TRACE`.
//!
//! The recorder passes over what it does not understand, or a program would not run. Whoever writes a
//! command wants to be told before that: so this is the same table, and refuses.

use std::ops::RangeInclusive;

use crate::quantities::parse_size;

/// An option that the recorder will take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecorderOption(String);

/// What an option is given.
#[derive(Debug)]
enum Value {
    /// Nothing: it is there or not.
    None,
    /// A number, or `off`.
    NumberOrOff(RangeInclusive<u64>),
    /// A number of bytes, which may have a unit.
    Bytes(RangeInclusive<u64>),
    /// `USR1`, `USR2`, or the number of a signal.
    Signal,
    /// Names of threads: at most 32 bytes.
    Pattern,
}

static OPTIONS: [(&str, Value, &str); 11] = [
    ("stacks", Value::NumberOrOff(1..=128), "stacks=off, stacks=1..128"),
    ("compress", Value::NumberOrOff(1..=9), "compress=off, compress=1..9"),
    ("limit", Value::Bytes(1..=u64::MAX), "limit=BYTES, as 256M or 2GiB"),
    ("ring", Value::None, "ring"),
    ("window", Value::Bytes(1 << 20..=8 << 20), "window=1M..8M"),
    ("paused", Value::None, "paused"),
    ("signal", Value::Signal, "signal=USR1"),
    ("snapshot-signal", Value::Signal, "snapshot-signal=USR2"),
    ("threads", Value::Pattern, "threads=PATTERN"),
    ("not-threads", Value::Pattern, "not-threads=PATTERN"),
    ("check", Value::None, "check"),
];

impl RecorderOption {
    /// Reads `KEY` or `KEY=VALUE`.
    ///
    /// # Errors
    ///
    /// What is allowed, where the recorder would not take it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        let Some((_, allowed, usage)) = OPTIONS.iter().find(|(known, ..)| *known == key) else {
            let all: Vec<&str> = OPTIONS.iter().map(|(.., usage)| *usage).collect();
            let all = all.join("; ");
            return Err(format!("the recorder has no such option; there are: {all}"));
        };
        // A comma would begin another option.
        match allowed.passed_on(value).filter(|_| !text.contains(',')) {
            Some(value) => Ok(Self(format!("{key}{value}"))),
            None => Err(format!("expected {usage}")),
        }
    }

    /// As it stands in `ALLOC_TRACE`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value {
    /// What is passed on behind the key; `None` where it is not allowed.
    fn passed_on(&self, value: Option<&str>) -> Option<String> {
        let Some(value) = value else {
            return matches!(self, Self::None).then(String::new);
        };
        let is_allowed = match self {
            Self::None => false,
            Self::NumberOrOff(range) => {
                value == "off" || value.parse().is_ok_and(|number| range.contains(&number))
            }
            Self::Bytes(range) => {
                // Written here as everywhere on the command line.
                let bytes = parse_size(value).ok().filter(|bytes| range.contains(bytes))?;
                return Some(format!("={bytes}"));
            }
            Self::Signal => {
                matches!(value, "USR1" | "USR2")
                    || value.parse().is_ok_and(|number: u32| (1..65).contains(&number))
            }
            Self::Pattern => (1..=32).contains(&value.len()),
        };
        is_allowed.then(|| format!("={value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_recorder_takes_is_taken() {
        for text in [
            "stacks=off",
            "stacks=128",
            "compress=9",
            "ring",
            "paused",
            "signal=USR1",
            "snapshot-signal=12",
            "threads=w*",
            "not-threads=*-0",
            "check",
        ] {
            assert_eq!(RecorderOption::parse(text).as_ref().map(RecorderOption::as_str), Ok(text));
        }
    }

    #[test]
    fn sizes_are_passed_on_as_numbers() {
        for (text, passed) in [
            ("limit=3G", "limit=3221225472"),
            ("limit=1.5MiB", "limit=1572864"),
            ("window=1024K", "window=1048576"),
        ] {
            assert_eq!(RecorderOption::parse(text).expect(text).as_str(), passed);
        }
    }

    #[test]
    fn what_it_would_pass_over_is_refused_with_what_is_allowed() {
        for text in ["stacks", "stacks=0", "stacks=129", "compress=0", "limit=0", "limit=1.5X"]
            .into_iter()
            .chain(["ring=1", "window=9M", "window=K", "signal=KILL", "signal=65", "threads="])
            .chain(["threads=a,ring", "check=1", "limit=99999999999G", "limit="])
        {
            let key = text.split('=').next().expect("a key");
            let told = RecorderOption::parse(text).expect_err(text);
            assert!(told.starts_with(&format!("expected {key}")), "{told}");
        }
        for text in ["", "colour=red", "Ring", "app.trace"] {
            let told = RecorderOption::parse(text).expect_err(text);
            assert!(OPTIONS.iter().all(|(key, ..)| told.contains(key)), "{told}");
        }
    }
}
