//! A recording read record by record, and what must hold of every one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use alloc_trace_format::{
    EndReason, Event, EventKind, ExitStatus, HeapSnapshot, ModuleUnload, NodeId, Process, Record,
    Recording, Skipped, ThreadId,
};
use tests::block::TRAIL_ALIGN;

/// Everything that a recording says.
#[derive(Debug)]
pub(crate) struct History {
    /// In the merged order.
    pub(crate) events: Vec<Event>,
    pub(crate) threads: BTreeMap<ThreadId, Thread>,
    pub(crate) process: Process,
    /// The texts of the markers, each with the number of events before it.
    pub(crate) markers: Vec<(String, usize)>,
    /// Why it was closed, and how many events there were by then.
    pub(crate) end: Option<(EndReason, u64)>,
    pub(crate) exit_status: Option<ExitStatus>,
    /// How many records are said to be missing.
    pub(crate) lost: u64,
    /// How much memory the process had resident, whenever it was asked.
    pub(crate) resident: Vec<u64>,
    /// What the heap held, whenever it was looked at.
    pub(crate) heap_snapshots: Vec<HeapSnapshot>,
    /// The modules that were found to be gone.
    pub(crate) unloads: Vec<ModuleUnload>,
    nodes: BTreeMap<NodeId, (NodeId, u64)>,
    started: BTreeSet<ThreadId>,
}

/// What is said of a thread.
#[derive(Debug, Default)]
pub(crate) struct Thread {
    pub(crate) name: String,
    pub(crate) internal: bool,
    pub(crate) exited: bool,
}

impl History {
    /// Reads a recording, of which nothing may be missing or damaged.
    #[track_caller]
    pub(crate) fn read(path: &Path) -> Self {
        let (history, skipped) = Self::read_parts(path);
        assert_eq!(skipped, [], "what was passed over in the file");
        history
    }

    /// Reads the recording of a process that was killed: it may have been about to write a block to
    /// the end of the log, which is then cut short, and whose records are still in the window.
    #[track_caller]
    pub(crate) fn read_killed(path: &Path) -> Self {
        let (history, skipped) = Self::read_parts(path);
        assert!(skipped.iter().all(|part| part.truncated), "{skipped:?}");
        history
    }

    #[track_caller]
    fn read_parts(path: &Path) -> (Self, Vec<Skipped>) {
        let recording = Recording::open(path).expect("a recording");
        let mut history = Self {
            events: Vec::new(),
            threads: BTreeMap::new(),
            process: Process {
                pid: 0,
                parent_pid: 0,
                executable: "".into(),
                arguments: Box::default(),
            },
            markers: Vec::new(),
            end: None,
            exit_status: recording.exit_status(),
            lost: 0,
            resident: Vec::new(),
            heap_snapshots: Vec::new(),
            unloads: Vec::new(),
            nodes: BTreeMap::new(),
            started: BTreeSet::new(),
        };
        let mut merged = recording.merged();
        while let Some(record) = merged.next_record().expect("a readable file") {
            history.take(record);
        }
        assert_eq!(merged.skipped(), [], "what was passed over in the records");
        assert_eq!(recording.events(), history.events.len() as u64);
        assert_eq!(recording.header().pid, history.process.pid);
        let skipped = recording.skipped().to_vec();
        (history, skipped)
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Event(event) => self.events.push(event),
            Record::Node(node) => {
                assert!(node.address != 0);
                self.nodes.insert(node.id, (node.parent, node.address));
            }
            Record::ThreadStart(start) => {
                assert!(self.started.insert(start.thread), "a thread twice: {start:?}");
                let thread = self.threads.entry(start.thread).or_default();
                thread.internal = start.internal;
                if thread.name.is_empty() {
                    thread.name = start.name.into();
                }
            }
            // It has no time: it may come before the thread's start, which another stream has.
            Record::ThreadName { thread, name } => {
                self.threads.entry(thread).or_default().name = name.into();
            }
            Record::ThreadExit { thread, .. } => {
                self.threads.entry(thread).or_default().exited = true;
            }
            Record::Marker { text, .. } => self.markers.push((text.into(), self.events.len())),
            Record::Process(process) => self.process = *process,
            Record::Lost { records, .. } => self.lost += records,
            Record::HeapSnapshot(snapshot) => self.heap_snapshots.push(*snapshot),
            Record::ModuleUnload(unload) => self.unloads.push(unload),
            Record::Resident { bytes, .. } => self.resident.push(bytes),
            Record::End { reason, events, .. } => {
                assert!(self.end.replace((reason, events)).is_none(), "closed twice");
            }
            Record::Unknown { kind } => panic!("a record of kind {kind}"),
            _ => {}
        }
    }

    /// Checks the whole history of a program that was recorded from its first request on: every
    /// block that is released is live, with the layout it was asked for with; no address is live
    /// twice; every thread is known; and the closing record, if there is one, has the right number.
    #[track_caller]
    pub(crate) fn assert_whole(&self) {
        assert_eq!(self.assert_sound(), 0, "releases of blocks that were never obtained");
    }

    /// The same for a recording that began later: answers how many blocks were released that are
    /// older.
    #[track_caller]
    pub(crate) fn assert_sound(&self) -> u64 {
        assert_eq!(self.lost, 0, "records are lost");
        let mut live = BTreeMap::new();
        let mut ever = BTreeMap::new();
        let mut older = 0;
        for (index, event) in self.events.iter().enumerate() {
            assert!(self.started.contains(&event.thread), "of an unknown thread: {event:?}");
            if event.failed {
                assert_eq!(event.address, 0, "{event:?}");
                continue;
            }
            let (left, left_size) = match event.kind {
                EventKind::Free => (event.address, event.size),
                EventKind::Realloc => (event.old_address, event.old_size),
                EventKind::Alloc | EventKind::AllocZeroed => (0, 0),
            };
            if left != 0 {
                match live.remove(&left) {
                    Some(layout) => {
                        assert_eq!(layout, (left_size, event.align_log2), "{index}: {event:?}");
                    }
                    None => {
                        let before = ever.get(&left);
                        assert_eq!(before, None, "{index}: released and not live: {event:?}");
                        older += 1;
                    }
                }
            }
            if event.kind != EventKind::Free {
                assert!(event.address.is_multiple_of(event.align()), "{index}: {event:?}");
                let layout = (event.size, event.align_log2);
                let other = live.insert(event.address, layout);
                assert_eq!(other, None, "{index}: an address is live twice: {event:?}");
                ever.insert(event.address, index);
            }
        }
        if let Some((_, events)) = self.end {
            assert_eq!(events, self.events.len() as u64, "by the closing record");
        }
        older
    }

    /// The events of a trail's blocks of this many bytes, in order.
    pub(crate) fn of_size(&self, size: u64) -> impl Iterator<Item = &Event> {
        let align = TRAIL_ALIGN as u64;
        self.events.iter().filter(move |event| event.size == size && event.align() == align)
    }

    /// The events of the blocks of a trail that is shorter than a thousand.
    pub(crate) fn of_trail(&self, base: u64) -> impl Iterator<Item = &Event> {
        let align = TRAIL_ALIGN as u64;
        let sizes = base..base + 1_000;
        self.events
            .iter()
            .filter(move |event| sizes.contains(&event.size) && event.align() == align)
    }

    /// How many times each block of a trail was made; the same number for all of them, each made and
    /// freed before the next on its thread.
    #[track_caller]
    pub(crate) fn trails(&self, base: u64, count: u64) -> u64 {
        let mut next: BTreeMap<ThreadId, (u64, Option<u64>)> = BTreeMap::new();
        let mut trails = 0;
        let is_part = |event: &&Event| {
            (base..base + count).contains(&event.size) && event.align() == TRAIL_ALIGN as u64
        };
        for event in self.events.iter().filter(is_part) {
            let (number, live) = next.entry(event.thread).or_default();
            assert_eq!(event.size, base + *number, "{event:?}");
            if event.kind == EventKind::Alloc {
                assert_eq!(live.replace(event.address), None, "{event:?}");
            } else {
                assert_eq!(event.kind, EventKind::Free, "{event:?}");
                assert_eq!(live.take(), Some(event.address), "{event:?}");
                *number = (*number + 1) % count;
                trails += u64::from(*number == 0);
            }
        }
        for (thread, state) in next {
            assert_eq!(state, (0, None), "{thread:?} ended within a trail");
        }
        trails
    }

    /// The one thread of a name.
    #[track_caller]
    pub(crate) fn thread(&self, name: &str) -> ThreadId {
        let mut named = self.threads.iter().filter(|(_, thread)| thread.name == name);
        let (&id, _) =
            named.next().unwrap_or_else(|| panic!("no thread {name}: {:?}", self.threads));
        assert!(named.next().is_none(), "two threads {name}");
        id
    }

    /// The return addresses of a backtrace, the innermost first, and whether it is whole.
    #[track_caller]
    pub(crate) fn backtrace(&self, node: NodeId) -> (Vec<u64>, bool) {
        let (nodes, whole) = self.nodes(node);
        (nodes.into_iter().map(|(_, address)| address).collect(), whole)
    }

    /// The nodes of a backtrace with their return addresses, the innermost first, and whether it is
    /// whole.
    #[track_caller]
    pub(crate) fn nodes(&self, node: NodeId) -> (Vec<(NodeId, u64)>, bool) {
        let mut nodes = Vec::new();
        let mut next = node;
        while !next.is_root() {
            let &(parent, address) = self.nodes.get(&next).expect("a node that is defined");
            nodes.push((next, address));
            assert!(nodes.len() <= 128, "deeper than any recorder's");
            next = parent;
        }
        (nodes, next == NodeId::ROOT)
    }
}
