//! The page of a recording with very many call sites: it stays small enough to be sent, and opens.

mod browser;
mod support;

use std::collections::BTreeSet;
use std::path::Path;

use alloc_trace_cli::units::count;
use alloc_trace_format::{
    Anchor, EndReason, Event, EventKind, NodeDefinition, NodeId, Record, RecordingWriter, Window,
};

use browser::Page;
use support::{command, event, header, start, text};

/// Call sites, each a path of its own.
const SITES: u32 = 50_000;
const EVENTS: u64 = 1_200_000;
/// What a page may take, in bytes. Without a bound on its cells this one would take more.
const MOST: u64 = 30_000_000;

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
    let mut random = 1_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut stamp = 2_000_u64;
    let mut live: Vec<(u64, u64)> = Vec::new();
    let mut asked = BTreeSet::new();
    for number in 0..EVENTS {
        stamp += 1_000;
        let thread = 1 + (number % 4) as u32;
        let node = NodeId(2 + (next() % u64::from(SITES)) as u32);
        let made = if live.len() < 20_000 || next() % 2 == 0 {
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

#[test]
fn a_page_of_fifty_thousand_call_sites_is_small_enough_to_be_sent_and_opens() {
    let directory = tempfile::tempdir().expect("a directory");
    let [recording, path] = ["many.trace", "many.html"].map(|name| directory.path().join(name));
    let sites = write(&recording);
    // Where more bins are asked for than there is room for, there are fewer.
    let output = command()
        .args(["html", "--bins=8192"])
        .arg(&recording)
        .arg("-o")
        .arg(&path)
        .output()
        .expect("run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let length = std::fs::metadata(&path).expect("written").len();
    println!("{SITES} call sites and {EVENTS} events: a page of {} KiB", length >> 10);
    assert!(length <= MOST, "{length} bytes");
    let Some(browser) = browser::find() else { return };
    let page = &mut Page::open(&browser, &path, 1280, 900);
    page.wait_for("document.documentElement?.dataset.state === 'ready'");
    let shown = page.text("#table-count");
    assert!(shown.ends_with(&format!(" of {} rows", count(sites as u64))), "{shown}");
    page.click("#tab-flame");
    page.wait_for("document.querySelectorAll('#flame [data-node]').length > 100");
    page.settle();
    assert_eq!(page.errors, Vec::<String>::new());
}
