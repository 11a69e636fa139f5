//! The Firefox Profiler's JSON: every block as it comes and goes, live bytes over time, and when threads
//! were in spans.
//!
//! The profiler has one track of allocations a process, on its first thread: that holds those of all
//! threads, for it must see each block's release, whoever makes it. The crate that writes the format puts
//! them there whatever thread they are given for, as Firefox itself does.

use std::io::{self, Write};
use std::time::Duration;

use alloc_trace_analysis::{Backtraces, BlockRow, Intervals, Moments};
use fxprof_processed_profile::{
    CategoryHandle, Frame, FrameFlags, FrameInfo, MarkerFieldFlags, MarkerFieldFormat,
    MarkerTiming, ProcessHandle, Profile, ReferenceTimestamp, SamplingInterval, StackHandle,
    StaticSchemaMarker, StaticSchemaMarkerField, StringHandle, ThreadHandle, Timestamp,
};

use crate::export::live_points::live_points;
use crate::json;

/// A block that came or went.
#[derive(Debug, Clone, Copy)]
struct Change {
    time_ns: u64,
    /// A block's end comes before what happens at the same time: its address can be the next one's.
    begins: bool,
    address: u64,
    size: i64,
    /// The backtrace.
    node: u32,
}

/// The changes of all blocks, until they can be put in order.
#[derive(Debug, Default)]
pub(crate) struct Changes(Vec<Change>);

impl Changes {
    pub(crate) fn add(&mut self, block: &BlockRow<'_>) {
        let size = i64::try_from(block.size).unwrap_or(i64::MAX);
        let address = block.address;
        self.0.push(Change {
            time_ns: block.obtained_ns,
            begins: true,
            address,
            size,
            node: block.by.node,
        });
        if let Some(end) = block.end {
            let (time_ns, node) = (end.time_ns, end.by.node);
            self.0.push(Change { time_ns, begins: false, address, size: -size, node });
        }
    }
}

/// Of which program a profile is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) name: &'a str,
    pub(crate) pid: u32,
    pub(crate) started_at_unix_ns: u64,
}

pub(crate) fn write(
    out: &mut dyn Write,
    about: About<'_>,
    backtraces: &Backtraces,
    changes: Changes,
    intervals: &Intervals,
    moments: &Moments,
) -> io::Result<()> {
    let started = Duration::from_nanos(about.started_at_unix_ns);
    let started = ReferenceTimestamp::from_duration_since_unix_epoch(started);
    let mut profile = Profile::new(about.name, started, SamplingInterval::from_millis(1));
    profile.set_product(about.name);
    profile.set_os_name("Linux");
    profile.set_symbolicated(true);
    let process = profile.add_process(about.name, about.pid, at(0));
    let end = at(moments.duration_ns);
    profile.set_process_end_time(process, end);
    let mut threads = Vec::new();
    for thread in &moments.threads {
        let first = threads.is_empty();
        let handle =
            profile.add_thread(process, thread.os_thread.unwrap_or(thread.thread), at(0), first);
        let name = thread.name.as_deref();
        let name = name.map_or_else(|| format!("thread {}", thread.thread), str::to_owned);
        profile.set_thread_name(handle, &name);
        profile.set_thread_end_time(handle, end);
        threads.push(handle);
    }
    let first = match threads.first() {
        Some(&first) => first,
        None => profile.add_thread(process, about.pid, at(0), true),
    };
    profile.add_initial_visible_thread(first);
    profile.add_initial_selected_thread(first);
    add_changes(&mut profile, first, backtraces, changes);
    add_live_bytes(&mut profile, process, intervals);
    add_moments(&mut profile, &threads, first, moments);
    json::write(out, &profile)?;
    writeln!(out)
}

fn at(ns: u64) -> Timestamp {
    Timestamp::from_nanos_since_reference(ns)
}

fn add_changes(
    profile: &mut Profile,
    thread: ThreadHandle,
    backtraces: &Backtraces,
    Changes(mut changes): Changes,
) {
    // A parent's number is less than its children's.
    let mut stacks: Vec<Option<StackHandle>> = Vec::with_capacity(backtraces.nodes.len());
    for node in &backtraces.nodes {
        let parent = node.parent.and_then(|parent| stacks.get(parent as usize).copied().flatten());
        let frame = node.frame.and_then(|frame| backtraces.frames.get(frame as usize));
        let stack = frame.map(|frame| {
            let name = profile.intern_string(&frame.function);
            let frame = FrameInfo {
                frame: Frame::Label(name),
                category_pair: CategoryHandle::OTHER.into(),
                flags: FrameFlags::empty(),
            };
            let frame = profile.intern_frame(thread, frame);
            profile.intern_stack(thread, parent, frame)
        });
        stacks.push(stack.or(parent));
    }
    changes.sort_by_key(|change| (change.time_ns, change.begins));
    for Change { time_ns, address, size, node, .. } in changes {
        let stack = stacks.get(node as usize).copied().flatten();
        profile.add_allocation_sample(thread, at(time_ns), stack, address, size);
    }
}

/// The live bytes at the end of each bin, and where they were most within it.
fn add_live_bytes(profile: &mut Profile, process: ProcessHandle, intervals: &Intervals) {
    let counter = profile.add_counter(process, "malloc", "Memory", "Requested bytes that are live");
    let (mut time_ns, mut shown) = (0, 0);
    profile.add_counter_sample(counter, at(0), 0.0, 0);
    for point in live_points(intervals) {
        // Both at one time would be a step without a width.
        if point.time_ns > time_ns {
            let operations = u32::try_from(point.operations).unwrap_or(u32::MAX);
            let change = point.live_bytes as f64 - shown as f64;
            profile.add_counter_sample(counter, at(point.time_ns), change, operations);
            (time_ns, shown) = (point.time_ns, point.live_bytes);
        }
    }
}

fn add_moments(
    profile: &mut Profile,
    threads: &[ThreadHandle],
    first: ThreadHandle,
    moments: &Moments,
) {
    let handle = |number: u32| {
        let index = moments.threads.iter().position(|thread| thread.thread == number);
        index.and_then(|index| threads.get(index)).copied().unwrap_or(first)
    };
    for span in &moments.spans {
        let text = profile.intern_string(&span.fields);
        let name = profile.intern_string(&span.name);
        let timing = MarkerTiming::Interval(at(span.begin_ns), at(span.end_ns));
        profile.add_marker(handle(span.thread), timing, Text { name, text });
    }
    for marker in &moments.markers {
        let name = profile.intern_string("marker");
        let text = profile.intern_string(&marker.text);
        let timing = MarkerTiming::Instant(at(marker.time_ns));
        profile.add_marker(handle(marker.thread), timing, Text { name, text });
    }
}

/// A marker with a name and a text.
#[derive(Debug, Clone, Copy)]
struct Text {
    name: StringHandle,
    text: StringHandle,
}

impl StaticSchemaMarker for Text {
    const UNIQUE_MARKER_TYPE_NAME: &'static str = "Text";
    const CHART_LABEL: Option<&'static str> = Some("{marker.data.text}");
    const TABLE_LABEL: Option<&'static str> = Some("{marker.name} - {marker.data.text}");
    const FIELDS: &'static [StaticSchemaMarkerField] = &[StaticSchemaMarkerField {
        key: "text",
        label: "Text",
        format: MarkerFieldFormat::String,
        flags: MarkerFieldFlags::SEARCHABLE,
    }];

    fn name(&self, _: &mut Profile) -> StringHandle {
        self.name
    }

    fn category(&self, _: &mut Profile) -> CategoryHandle {
        CategoryHandle::OTHER
    }

    fn string_field_value(&self, _: u32) -> StringHandle {
        self.text
    }

    fn number_field_value(&self, _: u32) -> f64 {
        0.0
    }
}
