//! JSON as a terminal may get it.
//!
//! What stands in a string may be anything but a quote, a backslash and the first 32 characters, by JSON's own
//! rules; a terminal obeys others too, as DEL and the C1 controls. They are written as JSON writes any
//! character: `\u009b`. Who reads the JSON gets the same text.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use crate::printable::is_obeyed;

/// Writes a value on one line.
pub(crate) fn write(out: &mut (impl Write + ?Sized), value: &impl Serialize) -> io::Result<()> {
    write_as(CompactFormatter, out, value)
}

/// Writes a value, a member a line.
pub(crate) fn write_pretty(
    out: &mut (impl Write + ?Sized),
    value: &impl Serialize,
) -> io::Result<()> {
    write_as(PrettyFormatter::new(), out, value)
}

fn write_as(
    formatter: impl Formatter,
    mut out: &mut (impl Write + ?Sized),
    value: &impl Serialize,
) -> io::Result<()> {
    let mut serializer = Serializer::with_formatter(&mut out, Printable(formatter));
    value.serialize(&mut serializer).map_err(io::Error::from)
}

/// What another formatter writes, but for what a terminal obeys.
#[derive(Debug)]
struct Printable<F>(F);

impl<F: Formatter> Formatter for Printable<F> {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| is_obeyed(c)) {
            let (before, obeyed) = rest.split_at(at);
            self.0.write_string_fragment(writer, before)?;
            // None of them is beyond 16 bits.
            write!(writer, "\\u{:04x}", u32::from(c))?;
            rest = &obeyed[c.len_utf8()..];
        }
        self.0.write_string_fragment(writer, rest)
    }

    // All that the pretty one does in its own way.

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn written(value: &impl Serialize, pretty: bool) -> String {
        let mut out = Vec::new();
        if pretty { write_pretty(&mut out, value) } else { write(&mut out, value) }
            .expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_reads_as_it_was() {
        let all: String = (0..=0xffff).filter_map(char::from_u32).collect();
        for pretty in [false, true] {
            let json = written(&all, pretty);
            assert_eq!(json.chars().find(|&c| is_obeyed(c)), None);
            assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), all);
        }
        let json = written(&"\x1b\x7fa\u{80}\u{9f}\u{a0}\u{202e}\"é😀", false);
        assert_eq!(json, "\"\\u001b\\u007fa\\u0080\\u009f\u{a0}\\u202e\\\"é😀\"");
    }

    #[test]
    fn everything_else_is_written_as_ever() {
        let value = BTreeMap::from([
            ("a\u{9b}", serde_json::json!([1, 2.5, null, "x", []])),
            ("b", serde_json::json!({"c": {}, "d": {"e": true}})),
        ]);
        let as_ever = serde_json::to_string_pretty(&value).expect("memory");
        assert_eq!(written(&value, true), as_ever.replace('\u{9b}', "\\u009b"));
        let as_ever = serde_json::to_string(&value).expect("memory");
        assert_eq!(written(&value, false), as_ever.replace('\u{9b}', "\\u009b"));
    }
}
