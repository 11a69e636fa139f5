//! The first pass over a recording: what its records define, before any event is looked at.
//!
//! A call-tree node may be defined after an event that names it, and a thread be known as the
//! recorder's own only after its first event: so these are gathered first, in a pass of their own.

use alloc_trace_format::{
    EndReason, HeapSnapshot, Module, ModuleUnload, Process, ReadError, Record, Recording, Skipped,
    Stamp, ThreadId,
};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::call_tree::{self, CallTree, TreeForm};
use crate::replaced_code;

/// What the records of a recording define.
#[derive(Debug)]
pub(crate) struct Definitions {
    pub(crate) call_tree: CallTree,
    pub(crate) modules: Vec<Module>,
    /// In the order of their numbers.
    pub(crate) threads: Vec<Thread>,
    thread_numbers: FxHashMap<ThreadId, usize>,
    pub(crate) process: Option<Process>,
    pub(crate) end: Option<End>,
    /// The texts of the program's markers and when it first set each, in the order of that.
    markers: Vec<(Box<str>, Stamp)>,
    /// What the allocator below the recorder held, in the order of time.
    pub(crate) heap_snapshots: Vec<HeapSnapshot>,
    /// How many bytes were resident when, in the order of time.
    pub(crate) resident: Vec<(Stamp, u64)>,
    /// As the recorder counted them.
    pub(crate) lost_records: u64,
    /// Heap events found, the recorder's own included.
    pub(crate) recorded_events: u64,
    pub(crate) last_stamp: Stamp,
    /// Whether no ring was written over.
    is_whole: bool,
    /// What could not be read.
    pub(crate) skipped: Vec<Skipped>,
    file_bytes: u64,
}

/// A thread of the recorded process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Thread {
    pub(crate) id: ThreadId,
    pub(crate) name: Option<Box<str>>,
    pub(crate) os_thread: Option<u32>,
    pub(crate) internal: bool,
    pub(crate) exited: bool,
    /// When it had that name.
    named_at: Stamp,
}

impl Thread {
    /// It has this name at a time: streams are read one by one, and the last name counts.
    fn call(&mut self, name: Box<str>, stamp: Stamp) {
        if !name.is_empty() && stamp >= self.named_at {
            self.name = Some(name);
            self.named_at = stamp;
        }
    }
}

/// The closing record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    stamp: Stamp,
    pub(crate) reason: EndReason,
    /// How many heap events had been recorded, at least.
    pub(crate) events: u64,
}

impl Definitions {
    /// What all records define, with the call tree in that form.
    pub(crate) fn gather(recording: &Recording, form: TreeForm) -> Result<Self, ReadError> {
        let mut nodes = call_tree::Definitions::default();
        let mut threads: FxHashMap<ThreadId, Thread> = FxHashMap::default();
        let mut modules: Vec<Module> = Vec::new();
        let mut unloads: Vec<ModuleUnload> = Vec::new();
        let mut markers: Vec<(Box<str>, Stamp)> = Vec::new();
        let mut heap_snapshots: Vec<HeapSnapshot> = Vec::new();
        let mut resident: Vec<(Stamp, u64)> = Vec::new();
        let (mut process, mut end) = (None, None::<End>);
        let mut lost_records = 0_u64;
        let mut records = recording.definitions();
        while let Some(record) = records.next_record()? {
            match record {
                Record::Node(node) => nodes.add(&node),
                Record::Context(context) => {
                    threads.entry(context.thread).or_default();
                }
                Record::ThreadStart(start) => {
                    let thread = threads.entry(start.thread).or_default();
                    thread.os_thread = Some(start.os_thread);
                    thread.internal = start.internal;
                    thread.call(start.name, start.stamp);
                }
                Record::ThreadName { thread, name } => {
                    threads.entry(thread).or_default().call(name, records.stamp());
                }
                Record::ThreadExit { thread, .. } => {
                    threads.entry(thread).or_default().exited = true;
                }
                Record::Module(module) => modules.push(*module),
                Record::ModuleUnload(unload) => unloads.push(unload),
                Record::Marker { stamp, text, .. } => markers.push((text, stamp)),
                Record::HeapSnapshot(snapshot) => heap_snapshots.push(*snapshot),
                Record::Resident { stamp, bytes } => resident.push((stamp, bytes)),
                Record::Process(found) => process = Some(*found),
                Record::Lost { records, .. } => {
                    lost_records = lost_records.saturating_add(records);
                }
                // Recording can be stopped and go on: the last one counts.
                Record::End { stamp, reason, events }
                    if end.is_none_or(|end| end.stamp <= stamp) =>
                {
                    end = Some(End { stamp, reason, events });
                }
                _ => {}
            }
        }
        let skipped = [recording.skipped(), records.skipped()].concat();
        markers.sort_by_key(|&(_, stamp)| stamp);
        let mut known = FxHashSet::default();
        markers.retain(|(text, _)| known.insert(text.clone()));
        modules.sort_by_key(|module| module.stamp);
        replaced_code::move_away(&mut modules, &unloads, &mut nodes);
        heap_snapshots.sort_by_key(|snapshot| snapshot.stamp);
        resident.sort_unstable();
        let mut threads: Vec<Thread> =
            threads.into_iter().map(|(id, thread)| Thread { id, ..thread }).collect();
        threads.sort_by_key(|thread| thread.id);
        let thread_numbers =
            threads.iter().enumerate().map(|(index, thread)| (thread.id, index)).collect();
        let mut definitions = Self {
            call_tree: CallTree::new(&nodes, form),
            modules,
            threads,
            thread_numbers,
            process,
            end,
            markers,
            heap_snapshots,
            resident,
            lost_records,
            recorded_events: records.events(),
            last_stamp: records.last_stamp(),
            is_whole: recording.horizon().is_none(),
            skipped: Vec::new(),
            file_bytes: recording.file_bytes(),
        };
        definitions.skip(&skipped);
        Ok(definitions)
    }

    /// Notes more parts that could not be read, unless they are noted already.
    pub(crate) fn skip(&mut self, skipped: &[Skipped]) {
        self.skipped.extend_from_slice(skipped);
        self.skipped.iter_mut().for_each(|part| part.keep_within(self.file_bytes));
        // Of one part the passes may say different things: what was said first stays.
        self.skipped.sort_by_key(|part| (part.offset, part.bytes));
        self.skipped.dedup_by_key(|part| (part.offset, part.bytes));
    }

    /// A thread's index in [`Definitions::threads`], or the one behind the last.
    #[inline]
    pub(crate) fn thread(&self, id: ThreadId) -> usize {
        // Every record's thread comes from a context. The first pass has not seen it where it stopped at
        // damage that the second reads past: no greater index, for there are tables of so many entries.
        self.thread_numbers.get(&id).copied().unwrap_or(self.threads.len())
    }

    /// When the program first set a marker with this text.
    pub(crate) fn marker(&self, text: &str) -> Option<Stamp> {
        self.markers.iter().find(|(known, _)| &**known == text).map(|&(_, stamp)| stamp)
    }

    /// The texts of all markers and when each was first set, in the order of that.
    pub(crate) fn markers(&self) -> impl Iterator<Item = (&str, Stamp)> {
        self.markers.iter().map(|(text, stamp)| (&**text, *stamp))
    }

    /// The texts of all markers, in the order in which they were first set.
    pub(crate) fn marker_texts(&self) -> Vec<String> {
        self.markers.iter().map(|(text, _)| text.to_string()).collect()
    }

    /// Records that are missing: those that the recorder could not write, and the heap events that
    /// its closing record had counted beyond those that were found.
    pub(crate) fn missing_records(&self) -> u64 {
        // Of a ring most of what was recorded is meant to be missing.
        let promised = self.end.filter(|_| self.is_whole).map_or(0, |end| end.events);
        self.lost_records.saturating_add(promised.saturating_sub(self.recorded_events))
    }
}

#[cfg(test)]
mod tests {
    use alloc_trace_format::{FileHeader, RecordingWriter, ThreadStart, Window};

    use super::*;

    #[test]
    fn a_thread_that_only_the_second_pass_sees_has_the_index_behind_the_last() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.trace");
        let header = FileHeader::of_nanoseconds(42, 1_000);
        let mut writer =
            RecordingWriter::create(&path, &header, Window::default()).expect("created");
        let start = |id| ThreadStart {
            thread: ThreadId(id),
            os_thread: id,
            internal: false,
            stamp: 1_000,
            name: "".into(),
        };
        for id in [1, 2] {
            writer.write(0, &Record::ThreadStart(start(id))).expect("written");
        }
        writer.finish(None).expect("finished");
        let recording = Recording::open(&path).expect("readable");
        let definitions = Definitions::gather(&recording, TreeForm::Numbered).expect("read");
        assert_eq!([1, 2, 9].map(|id| definitions.thread(ThreadId(id))), [0, 1, 2]);
    }
}
