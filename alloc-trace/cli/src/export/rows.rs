//! One row for each block, as JSON or as comma-separated values.

use std::io::{self, Write};

use alloc_trace_analysis::{BlockEnd, BlockRow, EventKind};
use serde::Serialize;

use crate::json;

/// A block, in the order of the columns of all formats that have rows.
#[derive(Debug, Serialize)]
pub(crate) struct Row<'a> {
    pub(crate) address: u64,
    pub(crate) size: u64,
    pub(crate) align: u64,
    pub(crate) kind: &'static str,
    pub(crate) allocated_ns: u64,
    pub(crate) freed_ns: Option<u64>,
    pub(crate) lifetime_ns: Option<u64>,
    pub(crate) release: Option<&'static str>,
    pub(crate) temporary: bool,
    pub(crate) function: &'a str,
    pub(crate) file: Option<&'a str>,
    pub(crate) line: Option<u32>,
    pub(crate) span: Option<&'a str>,
    pub(crate) span_path: Option<String>,
    pub(crate) span_fields: Option<&'a str>,
    pub(crate) thread: u32,
    pub(crate) thread_name: Option<&'a str>,
    pub(crate) free_thread: Option<u32>,
    pub(crate) free_thread_name: Option<&'a str>,
    pub(crate) free_function: Option<&'a str>,
    pub(crate) free_file: Option<&'a str>,
    pub(crate) free_line: Option<u32>,
}

impl<'a> Row<'a> {
    pub(crate) fn new(block: &BlockRow<'a>) -> Self {
        let end: Option<BlockEnd<'a>> = block.end;
        let span = block.span;
        Self {
            address: block.address,
            size: block.size,
            align: block.align,
            kind: block.kind.map_or("unknown", EventKind::name),
            allocated_ns: block.obtained_ns,
            freed_ns: end.map(|end| end.time_ns),
            lifetime_ns: end.map(|end| end.lifetime_ns),
            release: end.map(|end| end.release.name()),
            temporary: block.temporary,
            function: &block.by.site.function,
            file: block.by.site.file.as_deref(),
            line: block.by.site.line,
            span: span.map(|span| &*span.name),
            span_path: span.map(|span| span.path.join("/")),
            span_fields: span.and_then(|span| span.fields.as_deref()),
            thread: block.by.thread,
            thread_name: block.by.thread_name,
            free_thread: end.map(|end| end.by.thread),
            free_thread_name: end.and_then(|end| end.by.thread_name),
            free_function: end.map(|end| &*end.by.site.function),
            free_file: end.and_then(|end| end.by.site.file.as_deref()),
            free_line: end.and_then(|end| end.by.site.line),
        }
    }
}

/// Writes a block as a JSON object on a line of its own.
pub(crate) fn write_json(out: &mut dyn Write, block: &BlockRow<'_>) -> io::Result<()> {
    json::write(out, &Row::new(block))?;
    out.write_all(b"\n")
}

/// The names of the columns, in their order.
const COLUMNS: &str = "address,size,align,kind,allocated_ns,freed_ns,lifetime_ns,release,\
                       temporary,function,file,line,span,span_path,span_fields,thread,thread_name,\
                       free_thread,free_thread_name,free_function,free_file,free_line\n";

pub(crate) fn write_csv_heading(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(COLUMNS.as_bytes())
}

/// Writes a block as values that commas set off, by RFC 4180 but for the line's end. What is not there
/// is empty, and a text that is there and empty is quoted.
pub(crate) fn write_csv(out: &mut dyn Write, block: &BlockRow<'_>) -> io::Result<()> {
    let row = Row::new(block);
    let Row { address, size, align, kind, allocated_ns, temporary, thread, .. } = row;
    write!(out, "{address},{size},{align},{kind},{allocated_ns},")?;
    number(out, row.freed_ns)?;
    number(out, row.lifetime_ns)?;
    write!(out, "{},{temporary},", row.release.unwrap_or_default())?;
    text(out, Some(row.function))?;
    text(out, row.file)?;
    number(out, row.line)?;
    text(out, row.span)?;
    text(out, row.span_path.as_deref())?;
    text(out, row.span_fields)?;
    write!(out, "{thread},")?;
    text(out, row.thread_name)?;
    number(out, row.free_thread)?;
    text(out, row.free_thread_name)?;
    text(out, row.free_function)?;
    text(out, row.free_file)?;
    if let Some(line) = row.free_line {
        write!(out, "{line}")?;
    }
    out.write_all(b"\n")
}

fn number(out: &mut dyn Write, number: Option<impl std::fmt::Display>) -> io::Result<()> {
    match number {
        Some(number) => write!(out, "{number},"),
        None => out.write_all(b","),
    }
}

fn text(out: &mut dyn Write, text: Option<&str>) -> io::Result<()> {
    let Some(text) = text else { return out.write_all(b",") };
    if !text.is_empty() && !text.contains([',', '"', '\n', '\r']) {
        return write!(out, "{text},");
    }
    write!(out, "\"{}\",", text.replace('"', "\"\""))
}
