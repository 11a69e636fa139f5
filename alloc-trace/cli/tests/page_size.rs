//! The page of a recording with very many call sites, or very long names: it stays small enough to be sent, and
//! opens.

mod browser;
mod support;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use alloc_trace_cli::units::count;
use alloc_trace_format::{
    Anchor, EndReason, Event, EventKind, MAX_TEXT_BYTES, NodeDefinition, NodeId, Record,
    RecordingWriter, Span, SpanId, ThreadId, Window,
};

use base64::prelude::{BASE64_STANDARD, Engine};
use browser::Page;
use flate2::read::DeflateDecoder;
use serde_json::Value;
use support::{command, event, header, start, text};

/// Call sites, each a path of its own.
const SITES: u32 = 200_000;
/// So many of them have rows of their own.
const ROWS: u64 = 10_000;
const EVENTS: u64 = 1_200_000;
/// What a page may take, in bytes. Without a bound on its cells this one would take more.
const MOST: u64 = 30_000_000;

/// Numbers that look like chance.
fn random() -> impl FnMut() -> u64 {
    let mut random = 1_u64;
    move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    }
}

/// Writes a recording in which every call site asks for memory at any time; how many of them did.
fn write(path: &Path) -> usize {
    let mut writer =
        RecordingWriter::create(path, &header(42), Window::default()).expect("created");
    for thread in 1..=4 {
        let name = format!("worker {thread}");
        writer.write(thread, &start(thread, &name, false)).expect("written");
    }
    for number in 0..SITES {
        let parent = if number == 0 { 0 } else { 2 + (number - 1) / 4 };
        let (id, parent) = (NodeId(2 + number), NodeId(parent));
        let address = 0x1000 * u64::from(number + 1);
        writer.write(1, &Record::Node(NodeDefinition { id, parent, address })).expect("written");
    }
    let mut next = random();
    let mut stamp = 2_000_u64;
    let mut live: Vec<(u64, u64)> = Vec::new();
    let mut asked = BTreeSet::new();
    for number in 0..EVENTS {
        stamp += 1_000;
        let thread = 1 + (number % 4) as u32;
        let node = NodeId(2 + (next() % u64::from(SITES)) as u32);
        let made = if live.len() < 20_000 || next().is_multiple_of(2) {
            let (address, size) = (0x10_0000 + 0x1_0000 * number, 1 + next() % 5_000);
            live.push((address, size));
            asked.insert(node);
            event(EventKind::Alloc, thread, stamp, address, size)
        } else {
            let (address, size) = live.swap_remove(next() as usize % live.len());
            event(EventKind::Free, thread, stamp, address, size)
        };
        writer.write(thread, &Record::Event(Event { node, ..made })).expect("written");
    }
    let end = Record::End { stamp, reason: EndReason::Exited, events: EVENTS };
    writer.write(1, &end).expect("written");
    writer.finish(Some(Anchor { ticks: stamp, monotonic_ns: stamp })).expect("finished");
    asked.len()
}

/// What the command says it wrote of a recording.
fn page(recording: &Path, path: &Path) -> u64 {
    // Where more bins are asked for than there is room for, there are fewer.
    let command = command()
        .args(["html", "--bins=8192", "--span-fields"])
        .arg(recording)
        .arg("-o")
        .arg(path)
        .output();
    let output = command.expect("run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let length = std::fs::metadata(path).expect("written").len();
    assert!(length <= MOST, "{length} bytes");
    length
}

/// The figures of a page, as its script unpacks them.
struct Unpacked {
    about: Value,
    rest: Vec<u8>,
    at: usize,
}

impl Unpacked {
    fn of(path: &Path) -> Self {
        let page = std::fs::read_to_string(path).expect("text");
        let (_, data) = page.split_once("id=\"data\"").expect("figures");
        let (data, _) =
            data.split_once('>').expect("an element").1.split_once('<').expect("its end");
        let packed = BASE64_STANDARD.decode(data.trim()).expect("base64");
        let mut rest = Vec::new();
        DeflateDecoder::new(&*packed).read_to_end(&mut rest).expect("deflated");
        let mut unpacked = Self { about: Value::Null, rest, at: 0 };
        let length = unpacked.number() as usize;
        let at = unpacked.at;
        unpacked.about = serde_json::from_slice(&unpacked.rest[at..at + length]).expect("JSON");
        unpacked.at += length;
        unpacked
    }

    fn number(&mut self) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = self.rest[self.at];
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    /// The sums of columns of so many numbers.
    fn sums<const COLUMNS: usize>(&mut self, length: u64) -> [u64; COLUMNS] {
        std::array::from_fn(|_| (0..length).map(|_| self.number()).sum())
    }
}

#[test]
fn a_page_of_two_hundred_thousand_call_sites_is_small_enough_to_be_sent_and_opens() {
    let directory = tempfile::tempdir().expect("a directory");
    let [recording, path] = ["many.trace", "many.html"].map(|name| directory.path().join(name));
    let others = write(&recording) as u64 - ROWS;
    let length = page(&recording, &path);
    println!("{SITES} call sites and {EVENTS} events: a page of {} KiB", length >> 10);

    // What the rows have adds up to what the program has.
    let mut unpacked = Unpacked::of(&path);
    let bins = unpacked.number();
    let [allocations, _, _, _, _, temporary, bytes, released, _, kept, ..] =
        unpacked.sums::<13>(bins);
    let rows = unpacked.number();
    assert_eq!(rows, ROWS + 1);
    let [cells] = unpacked.sums(rows);
    let [_, of_bytes, of_requests, of_temporary, of_released, _, of_kept, ..] =
        unpacked.sums::<10>(cells);
    assert_eq!(
        [of_bytes, of_requests, of_temporary, of_released, of_kept],
        [bytes, allocations, temporary, released, kept]
    );
    let said = format!("the smallest {} call sites and ", count(others));
    let warnings = unpacked.about["warnings"].to_string();
    assert!(warnings.contains(&said), "{warnings}");

    let Some(browser) = browser::find() else { return };
    let page = &mut Page::open(&browser, &path, 1280, 900);
    page.wait_for("document.documentElement?.dataset.state === 'ready'");
    let shown = page.text("#table-count");
    assert!(shown.ends_with(&format!(" of {} rows", count(rows))), "{shown}");
    assert!(page.text("#table").contains("[other call sites]"), "they are most of all");
    assert!(page.text("#warnings").contains(&said));
    page.click("#tab-flame");
    page.wait_for("document.querySelectorAll('#flame [data-node]').length > 100");
    page.settle();
    assert_eq!(page.errors, Vec::<String>::new());
}

/// Their names alone would make a page that is too long.
#[test]
fn a_page_of_many_long_names_has_fewer_rows() {
    let directory = tempfile::tempdir().expect("a directory");
    let [recording, path] = ["names.trace", "names.html"].map(|name| directory.path().join(name));
    let mut writer =
        RecordingWriter::create(&recording, &header(42), Window::default()).expect("created");
    // All are shown one by one where there is room for them.
    let threads = ROWS as u32;
    let mut random = random();
    let mut name = || -> Box<str> {
        (0..MAX_TEXT_BYTES).map(|_| char::from(b'0' + (random() >> 20) as u8 % 64)).collect()
    };
    for number in 1..=threads {
        let (thread, span) = (ThreadId(number), SpanId(u64::from(number)));
        let stamp = 2_000 + 10 * u64::from(number);
        let made = Span {
            id: span,
            stamp,
            parent: None,
            again: false,
            level: 3,
            name: name(),
            target: name(),
            fields: name(),
        };
        let alloc = event(EventKind::Alloc, number, stamp + 2, 16 * u64::from(number), 8);
        for record in [
            start(number, &name(), false),
            Record::Span(Box::new(made)),
            Record::SpanEnter { thread, stamp: stamp + 1, span },
            Record::Event(Event { node: NodeId::ROOT, ..alloc }),
            Record::SpanExit { thread, stamp: stamp + 3, span },
        ] {
            writer.write(1, &record).expect("written");
        }
    }
    writer.finish(None).expect("finished");
    page(&recording, &path);
    let about = Unpacked::of(&path).about;
    let rows = about["threads"].as_array().expect("a list");
    let others = count(ROWS + 1 - rows.len() as u64);
    let warnings = about["warnings"].to_string();
    // Outside of spans is a row, too.
    let said = format!("the smallest {others} threads and {others} spans have");
    assert!(warnings.contains(&said), "{} rows, {warnings}", rows.len());
}
