//! Perfetto's trace: live bytes of the program, of each thread and in each span and the resident memory as
//! counters, spans as slices, markers as instants.
//!
//! Time is cut into bins. A counter stands at a bin's end, where it is exact, and the program's also at
//! each bin's peak: so a trace is no larger for a recording with more events.

mod proto;

use std::collections::BTreeMap;
use std::io::{self, Write};

use alloc_trace_analysis::{Cell, Intervals, Moments, SpanMoment};
use prost::Message;

use self::proto::{
    CounterDescriptor, EventType, ProcessDescriptor, ThreadDescriptor, Trace, TracePacket,
    TrackDescriptor, TrackEvent, Unit,
};
use crate::export::live_points::live_points;

/// Of which program a trace is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) name: &'a str,
    pub(crate) arguments: &'a [String],
    pub(crate) pid: u32,
}

/// The numbers of the tracks.
const PROCESS: u64 = 1;
const LIVE: u64 = 2;
const MARKERS: u64 = 3;
const RESIDENT: u64 = 4;
const FIRST_THREAD: u64 = 1 << 32;
const FIRST_THREAD_COUNTER: u64 = 2 << 32;
const FIRST_SPAN_COUNTER: u64 = 3 << 32;
/// All packets are of one sequence: they refer to nothing that another one defines.
const SEQUENCE: u32 = 1;

pub(crate) fn write(
    out: &mut dyn Write,
    about: About<'_>,
    intervals: &Intervals,
    moments: &Moments,
) -> io::Result<()> {
    let mut tracer = Tracer { out, buffer: Vec::new() };
    tracer.describe(about, moments)?;
    tracer.count(intervals, moments)?;
    tracer.slices(moments)?;
    if !moments.markers.is_empty() {
        let (uuid, parent_uuid, name) = (MARKERS, PROCESS, "markers".into());
        tracer.track(TrackDescriptor { uuid, parent_uuid, name, ..Default::default() })?;
    }
    for marker in &moments.markers {
        let name = marker.text.to_string();
        let event = TrackEvent { name, ..TrackEvent::new(EventType::Instant, MARKERS) };
        tracer.event(marker.time_ns, event)?;
    }
    Ok(())
}

/// What a thread is called.
fn called(name: Option<&str>, number: u32) -> String {
    name.map_or_else(|| format!("thread {number}"), str::to_owned)
}

struct Tracer<'a> {
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
}

impl Tracer<'_> {
    /// Writes one packet. A trace is nothing but packets, so each can be written as it comes.
    fn packet(&mut self, packet: TracePacket) -> io::Result<()> {
        self.buffer.clear();
        let packet = TracePacket { trusted_packet_sequence_id: SEQUENCE, ..packet };
        Trace { packet: vec![packet] }.encode(&mut self.buffer).map_err(io::Error::other)?;
        self.out.write_all(&self.buffer)
    }

    fn event(&mut self, timestamp: u64, event: TrackEvent) -> io::Result<()> {
        self.packet(TracePacket { timestamp, track_event: Some(event), ..TracePacket::default() })
    }

    fn track(&mut self, track: TrackDescriptor) -> io::Result<()> {
        self.packet(TracePacket { track_descriptor: Some(track), ..TracePacket::default() })
    }

    fn counter(&mut self, uuid: u64, parent_uuid: u64, name: String) -> io::Result<()> {
        let counter = CounterDescriptor { unit: Unit::SizeBytes as i32 };
        let counter = Some(counter);
        self.track(TrackDescriptor { uuid, parent_uuid, name, counter, ..Default::default() })
    }

    fn describe(&mut self, about: About<'_>, moments: &Moments) -> io::Result<()> {
        let pid = about.pid as i32;
        let process = ProcessDescriptor {
            pid,
            cmdline: about.arguments.to_vec(),
            process_name: about.name.to_owned(),
        };
        let process = Some(process);
        self.track(TrackDescriptor { uuid: PROCESS, process, ..Default::default() })?;
        for thread in &moments.threads {
            let uuid = FIRST_THREAD + u64::from(thread.thread);
            let tid = thread.os_thread.unwrap_or(thread.thread) as i32;
            let thread_name = called(thread.name.as_deref(), thread.thread);
            let thread = Some(ThreadDescriptor { pid, tid, thread_name });
            let parent_uuid = PROCESS;
            self.track(TrackDescriptor { uuid, parent_uuid, thread, ..Default::default() })?;
        }
        Ok(())
    }

    /// Live bytes: those of the program also where they were most, those of its parts at the end of
    /// each bin in which they changed.
    fn count(&mut self, intervals: &Intervals, moments: &Moments) -> io::Result<()> {
        self.counter(LIVE, PROCESS, "live bytes".into())?;
        self.value(0, LIVE, 0)?;
        for point in live_points(intervals) {
            self.value(point.time_ns, LIVE, point.live_bytes)?;
        }
        if !intervals.resident.is_empty() {
            self.counter(RESIDENT, PROCESS, "resident memory".into())?;
        }
        for &(time_ns, bytes) in &intervals.resident {
            self.value(time_ns, RESIDENT, bytes)?;
        }
        for row in &intervals.threads {
            let number = row.key.thread;
            let known = moments.threads.iter().any(|thread| thread.thread == number);
            let parent = if known { FIRST_THREAD + u64::from(number) } else { PROCESS };
            let track = FIRST_THREAD_COUNTER + u64::from(number);
            let name = format!("live bytes of {}", called(row.key.name.as_deref(), number));
            self.counter(track, parent, name)?;
            self.part(track, &row.cells, intervals)?;
        }
        for (track, row) in (FIRST_SPAN_COUNTER..).zip(&intervals.spans) {
            let name = match &row.key {
                None => "live bytes outside of spans".into(),
                Some(span) => match span.fields.as_deref() {
                    None | Some("") => format!("live bytes in {}", span.name),
                    Some(fields) => format!("live bytes in {}{{{fields}}}", span.name),
                },
            };
            self.counter(track, PROCESS, name)?;
            self.part(track, &row.cells, intervals)?;
        }
        Ok(())
    }

    fn part(&mut self, track: u64, cells: &[Cell], intervals: &Intervals) -> io::Result<()> {
        let mut live = 0_u64;
        for cell in cells {
            let begin = u64::from(cell.bin) * intervals.bin_ns;
            if live == 0 {
                // Or the counter's first value would be drawn from the beginning of the trace on.
                self.value(begin, track, live)?;
            }
            live = live.saturating_add(cell.allocated_bytes).saturating_sub(cell.released_bytes);
            let end = intervals.state.duration_ns.min(begin + intervals.bin_ns);
            self.value(end, track, live)?;
        }
        Ok(())
    }

    fn value(&mut self, time_ns: u64, track: u64, value: u64) -> io::Result<()> {
        let counter_value = i64::try_from(value).unwrap_or(i64::MAX);
        let event = TrackEvent::new(EventType::Counter, track);
        self.event(time_ns, TrackEvent { counter_value: Some(counter_value), ..event })
    }

    /// Spans, each on its thread. Slices of one track must lie within each other: one that ends while
    /// an inner one goes on takes that with it, which begins anew.
    fn slices(&mut self, moments: &Moments) -> io::Result<()> {
        let mut by_thread: BTreeMap<u32, Vec<&SpanMoment>> = BTreeMap::new();
        for span in &moments.spans {
            by_thread.entry(span.thread).or_default().push(span);
        }
        for (thread, spans) in by_thread {
            let track = FIRST_THREAD + u64::from(thread);
            let mut open: Vec<&SpanMoment> = Vec::new();
            for span in spans {
                self.close(track, &mut open, span.begin_ns)?;
                self.begin(track, span, span.begin_ns)?;
                open.push(span);
            }
            self.close(track, &mut open, u64::MAX)?;
        }
        Ok(())
    }

    /// Ends the slices that end by a time, in the order of their ends.
    fn close(&mut self, track: u64, open: &mut Vec<&SpanMoment>, time_ns: u64) -> io::Result<()> {
        loop {
            // Of those that end together the innermost.
            let first = open.iter().enumerate().rev().min_by_key(|(_, span)| span.end_ns);
            let Some((index, end)) = first.map(|(index, span)| (index, span.end_ns)) else {
                return Ok(());
            };
            if end > time_ns {
                return Ok(());
            }
            for _ in index..open.len() {
                self.event(end, TrackEvent::new(EventType::SliceEnd, track))?;
            }
            open.remove(index);
            for span in open.iter().skip(index) {
                self.begin(track, span, end)?;
            }
        }
    }

    fn begin(&mut self, track: u64, span: &SpanMoment, time_ns: u64) -> io::Result<()> {
        let name = match &*span.fields {
            "" => span.name.to_string(),
            fields => format!("{}{{{fields}}}", span.name),
        };
        let event = TrackEvent { name, ..TrackEvent::new(EventType::SliceBegin, track) };
        self.event(time_ns, event)
    }
}
