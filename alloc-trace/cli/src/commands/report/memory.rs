//! What the process had resident and what its heap held, in a report.

use std::cmp::Reverse;
use std::io::{self, Write};

use alloc_trace_analysis::{ClassState, HeapReason, HeapState, Memory};

use super::{Layout, shown};
use crate::table::{Table, from_the_front};
use crate::text::{write_fact, write_heading};
use crate::units::{bytes, count, counted, duration, share};

/// The line of the most that was resident.
pub(super) fn resident(memory: &Memory) -> Option<String> {
    // Of equals the first.
    let most = memory.resident.iter().rev().max_by_key(|resident| resident.bytes)?;
    Some(format!("at most {} seen, after {}", bytes(most.bytes), duration(most.time_ns)))
}

/// Writes what the heap held when it was largest.
pub(super) fn write_heap(out: &mut dyn Write, memory: &Memory, layout: Layout) -> io::Result<()> {
    let Some(heap) = memory.largest() else { return Ok(()) };
    let why = match heap.reason {
        HeapReason::Start => "at the start",
        HeapReason::Peak => "at a peak",
        HeapReason::End => "at the end",
        HeapReason::Requested => "as asked for",
        _ => "at some moment",
    };
    let of = counted(memory.heap_snapshots.len() as u64, "snapshot");
    let heading =
        format!("The heap at its largest, of {of}: {why}, after {}", duration(heap.time_ns));
    writeln!(out)?;
    write_heading(out, &heading, layout.columns, layout.style)?;
    write_sums(out, heap, layout)?;
    write_classes(out, heap, layout)
}

fn write_sums(out: &mut dyn Write, heap: &HeapState, layout: Layout) -> io::Result<()> {
    let mut line = |name: &str, text: String| write_fact(out, name, &text, layout.columns);
    let metadata = bytes(heap.metadata_bytes);
    let segments = counted(heap.segments, "segment");
    line(
        "mapped",
        format!("{} in {segments}, {metadata} of it metadata", bytes(heap.mapped_bytes)),
    )?;
    line("touched", format!("{} of the segments", bytes(heap.touched_bytes)))?;
    let blocks = counted(heap.live_blocks, "block");
    line("live", format!("{} in {blocks}, as usable bytes", bytes(heap.live_bytes)))?;
    let pages = counted(heap.pages, "page");
    line(
        "in pages",
        format!(
            "{} in {pages}: {} live, {} cached, {} free",
            bytes(heap.page_bytes),
            bytes(heap.page_bytes.saturating_sub(heap.cached_bytes + heap.free_bytes)),
            bytes(heap.cached_bytes),
            bytes(heap.free_bytes)
        ),
    )?;
    let (pages, in_pages) = heap.sparse();
    if pages > 0 {
        let pages = counted(pages, "page");
        line("sparse", format!("{pages} with {}: a quarter is taken, or less", bytes(in_pages)))?;
    }
    Ok(())
}

fn write_classes(out: &mut dyn Write, heap: &HeapState, layout: Layout) -> io::Result<()> {
    let mut classes: Vec<&ClassState> = heap.classes.iter().collect();
    classes.sort_by_key(|class| Reverse(class.capacity.saturating_mul(class.block_bytes)));
    let shown = shown(classes.len(), layout.rows);
    let headings = ["pages", "sparse", "blocks", "live", "cached", "free", "full", "size class"];
    let mut table = Table::new(&headings);
    for class in classes.into_iter().take(layout.rows) {
        let (sparse, _) = class.sparse();
        let figures = vec![
            count(class.pages),
            count(sparse),
            count(class.capacity),
            count(class.live),
            count(class.cached),
            count(class.free),
            share(class.live, class.capacity),
        ];
        table.row(figures, format!("to {}", bytes(class.block_bytes)), None);
    }
    if !shown.is_empty() {
        writeln!(out, "size classes by bytes{shown}")?;
    }
    table.write(out, layout.columns, layout.style, from_the_front)
}
