//! Carrying on what is live in the ring's oldest segment, so that it can be written over.
//!
//! The segment's digests and the last checkpoint are merged into the next checkpoint: what was seen
//! last of each address, with the nodes and threads that live blocks name. All are sorted, so the merge
//! reads and writes a few bytes of each at a time, and its memory has a bound whatever is live. Which
//! nodes are named is marked in a table of hashes; where two share a mark one is carried on in vain.
//!
//! The file is whole at each moment: the new checkpoint is written where nothing counts, then the commit
//! says that it counts from now on, and only then is the segment written over.

mod marks;
mod run;
mod walk;
mod windows;

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use alloc_trace_format::{
    BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Commit, Item, ItemState, MAX_ITEM_BYTES, Stamp,
    Subject, ThreadId,
};

use self::marks::Marks;
use self::run::{Block, Checkpoint, Digested, Head, Ranked, Run, Section, sift_down};
use self::walk::Walk;
use super::digest::LONGEST_CHUNK_BYTES;
use super::log::Log;
use super::ring::For;
use super::slots::Slot;
use super::sys::{self, Errno};
use super::{RECORDER, THREAD};

/// A segment has no more chunks than can be merged at a time.
pub(super) const MAX_DIGESTS: usize = 2047;
const MAX_RUNS: usize = MAX_DIGESTS + 1;
/// What is read ahead of all runs together, and of one at most.
const BUFFER_BYTES: usize = 1 << 20;
const MOST_BUFFERED: usize = 64 << 10;
/// The payload of a checkpoint's block at most.
const BLOCK_BYTES: usize = 64 << 10;
const MAX_BLOCKS: usize = 8192;

const _: () = assert!(BUFFER_BYTES / MAX_RUNS > 2 * MAX_ITEM_BYTES);

/// What a fold works in. Zeroed memory is valid.
#[repr(C)]
struct Memory {
    marks: Marks<{ 1 << 17 }>,
    threads: Marks<{ 1 << 14 }>,
    named: Marks<{ 1 << 14 }>,
    digests: [Digested; MAX_DIGESTS],
    runs: [Run; MAX_RUNS],
    heap: [Ranked; MAX_RUNS],
    buffers: [u8; BUFFER_BYTES],
    chunk: [u64; LONGEST_CHUNK_BYTES / 8],
    out: [u8; BLOCK_BYTES],
    /// The blocks of the last checkpoint, and of the one that is made.
    checkpoints: [Checkpoint; 2],
}

/// The memory of folds, made when it is needed first, and who has it.
#[derive(Debug)]
pub(super) struct Folds {
    memory: AtomicPtr<Memory>,
    /// How many attempts found somebody in the way.
    pub(super) postponed: AtomicU64,
}

impl Folds {
    pub(super) const fn new() -> Self {
        Self { memory: AtomicPtr::new(ptr::null_mut()), postponed: AtomicU64::new(0) }
    }

    /// Moves the tail of the log's ring on by a segment; `false` where somebody is in the way.
    pub(super) fn fold(&self, log: &Log) -> Result<bool, Errno> {
        if !log.ring().begin_fold() {
            return Ok(false);
        }
        let result = match self.memory() {
            Some(mut memory) => {
                let own = THREAD.with(|thread| thread.slot.get());
                // SAFETY: the right to fold was taken, so nobody else uses the memory.
                let memory = unsafe { memory.as_mut() };
                Fold { log, memory, own }.run()
            }
            None => Err(libc::ENOMEM),
        };
        log.ring().end_fold();
        if result == Ok(false) {
            self.postponed.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn memory(&self) -> Option<NonNull<Memory>> {
        if let Some(memory) = NonNull::new(self.memory.load(Ordering::Relaxed)) {
            return Some(memory);
        }
        let memory = sys::map_anonymous(size_of::<Memory>())?.cast::<Memory>();
        self.memory.store(memory.as_ptr(), Ordering::Relaxed);
        Some(memory)
    }
}

struct Fold<'a> {
    log: &'a Log,
    memory: &'a mut Memory,
    /// The slot of the thread that works here.
    own: *const Slot,
}

impl Fold<'_> {
    fn run(&mut self) -> Result<bool, Errno> {
        let ring = self.log.ring();
        let segment = ring.tail();
        if ring.is_written(segment) || !ring.is_due() {
            return Ok(false);
        }
        // An owner that has not seen the next generation is seen to be busy behind this. Without it
        // too: that generation began several segments ago.
        let _ = RECORDER.barrier();
        let (commits, mut horizon) = ring.last_commit();
        let mut oldest = ring.begun(segment + 1);
        self.memory.marks.clear();
        self.memory.threads.clear();
        self.memory.named.clear();
        if commits == 0 {
            // The first fold of a recording: the memory may hold another one's.
            for checkpoint in &mut self.memory.checkpoints {
                checkpoint.length = 0;
            }
        }
        let Some(seen) = self.mark_windows(segment, &mut oldest, &mut horizon)? else {
            return Ok(false);
        };
        let digests = self.find_digests(segment, &mut horizon)?;
        let late = self.mark_late(segment, &mut oldest, &mut horizon);
        if self.windows_seen(segment)? != Some(seen) {
            return Ok(false);
        }
        // Only now: a late chunk that was just being written is read in part, and then its thread was
        // seen to have gone on.
        late?;
        let number = commits.wrapping_add(1).max(1);
        let checkpoint = ring.head();
        let last = commits as usize % 2;
        let mut writer = Writer::new(number);
        if let Some(next) = self.memory.checkpoints.get_mut(number as usize % 2) {
            next.length = 0;
        }
        self.merge_effects(digests, last, oldest, &mut writer)?;
        self.flush(&mut writer, Section::Effects)?;
        self.merge_nodes(digests, last, &mut writer)?;
        self.flush(&mut writer, Section::Nodes)?;
        self.carry_records(digests, last, &mut writer)?;
        self.flush(&mut writer, Section::Records)?;
        let commit = Commit {
            number,
            blocks: writer.blocks,
            tail: (segment + 1) * ring.segment_bytes(),
            checkpoint,
            horizon,
        };
        let (offset, bytes) = commit.encode();
        self.log.write_at(offset, &bytes)?;
        ring.committed(&commit);
        Ok(true)
    }

    /// Lists the segment's digests; answers how many there are.
    fn find_digests(&mut self, segment: u64, horizon: &mut Stamp) -> Result<usize, Errno> {
        let Memory { digests, .. } = &mut *self.memory;
        let mut found = 0;
        let mut walk = Walk::of(self.log, segment);
        while let Some((header, offset)) = walk.next_digest(false)? {
            *horizon = (*horizon).max(header.last_stamp);
            let Some(place) = digests.get_mut(found) else { return Err(libc::EFBIG) };
            *place = Digested::of(&header, offset);
            found += 1;
        }
        Ok(found)
    }

    /// Marks what chunks name that threads finished only after they had met a later generation: such
    /// chunks stand in later segments.
    fn mark_late(
        &mut self,
        segment: u64,
        oldest: &mut Stamp,
        horizon: &mut Stamp,
    ) -> Result<(), Errno> {
        let ring = self.log.ring();
        let newest = ring.head().checked_div(ring.segment_bytes()).unwrap_or(0);
        for later in segment + 1..=newest {
            let mut walk = Walk::of(self.log, later);
            while let Some((header, offset)) = walk.next_digest(true)? {
                *oldest = (*oldest).min(header.first_stamp);
                if u64::from(header.stream) > segment {
                    continue;
                }
                *horizon = (*horizon).max(header.last_stamp);
                let digest = Digested::of(&header, offset);
                for section in [Section::Effects, Section::Nodes] {
                    let mut run = Run::of_digest(&digest, section);
                    let Memory { marks, threads, buffers, .. } = &mut *self.memory;
                    let buffer = buffers.get_mut(..MOST_BUFFERED).unwrap_or_default();
                    loop {
                        run.advance(self.log, &[], section, buffer)?;
                        match run.head {
                            Head::Held(held) => {
                                marks.insert(held.node.0);
                                threads.insert(held.thread.0);
                            }
                            Head::Node(node) => marks.insert(node.parent.0),
                            Head::Released(..) => {}
                            Head::None => break,
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Begins with a section of all digests and of the last checkpoint; answers how many runs have
    /// something in it, which are in the heap then.
    fn begin_merge(
        &mut self,
        digests: usize,
        last: usize,
        section: Section,
    ) -> Result<(usize, usize), Errno> {
        let Memory { digests: all, runs, heap, buffers, checkpoints, .. } = &mut *self.memory;
        let count = digests + 1;
        let room = (BUFFER_BYTES / count).min(MOST_BUFFERED);
        let Some(checkpoint) = checkpoints.get(last) else { return Ok((0, room)) };
        let mut taken = 0;
        for index in 0..count {
            let Some(run) = runs.get_mut(index) else { break };
            *run = match all.get(index).filter(|_| index < digests) {
                Some(digest) => Run::of_digest(digest, section),
                None => Run::of_checkpoint(),
            };
            let buffer = buffers.get_mut(index * room..(index + 1) * room).unwrap_or_default();
            run.advance(self.log, checkpoint.blocks(), section, buffer)?;
            if !matches!(run.head, Head::None)
                && let Some(place) = heap.get_mut(taken)
            {
                *place = Ranked::of(run, index as u16);
                taken += 1;
            }
        }
        for at in (0..taken / 2).rev() {
            sift_down(heap.get_mut(..taken).unwrap_or_default(), at);
        }
        Ok((taken, room))
    }

    /// Takes the first item of all runs.
    fn next_merged(
        &mut self,
        taken: &mut usize,
        room: usize,
        last: usize,
        section: Section,
    ) -> Result<Head, Errno> {
        let Memory { runs, heap, buffers, checkpoints, .. } = &mut *self.memory;
        let Some(heap) = heap.get_mut(..*taken).filter(|heap| !heap.is_empty()) else {
            return Ok(Head::None);
        };
        let index = heap.first().map_or(0, |ranked| usize::from(ranked.run));
        let (Some(run), Some(checkpoint)) = (runs.get_mut(index), checkpoints.get(last)) else {
            return Ok(Head::None);
        };
        let head = run.head;
        let buffer = buffers.get_mut(index * room..(index + 1) * room).unwrap_or_default();
        run.advance(self.log, checkpoint.blocks(), section, buffer)?;
        if matches!(run.head, Head::None) {
            *taken -= 1;
            heap.swap(0, *taken);
        } else if let Some(first) = heap.first_mut() {
            *first = Ranked::of(run, index as u16);
        }
        sift_down(heap.get_mut(..*taken).unwrap_or_default(), 0);
        Ok(head)
    }

    /// Of each address what was seen last is carried on: a block that is held, or, as long as a chunk
    /// may still have its request, a release.
    fn merge_effects(
        &mut self,
        digests: usize,
        last: usize,
        oldest: Stamp,
        writer: &mut Writer,
    ) -> Result<(), Errno> {
        let section = Section::Effects;
        let (mut taken, room) = self.begin_merge(digests, last, section)?;
        let mut present = Head::None;
        loop {
            let next = self.next_merged(&mut taken, room, last, section)?;
            // They come by address and by stamp: the last one of an address counts.
            if next.place() != present.place() {
                match present {
                    Head::Held(held) => {
                        self.memory.marks.insert(held.node.0);
                        self.memory.threads.insert(held.thread.0);
                        self.put(writer, section, &Item::Held(held))?;
                    }
                    Head::Released(address, stamp) if stamp >= oldest => {
                        self.put(writer, section, &Item::Released { address, stamp })?;
                    }
                    _ => {}
                }
            }
            if matches!(next, Head::None) {
                return Ok(());
            }
            present = next;
        }
    }

    /// Nodes that are named are carried on, and those outside of them, which have lower numbers and
    /// come later.
    fn merge_nodes(
        &mut self,
        digests: usize,
        last: usize,
        writer: &mut Writer,
    ) -> Result<(), Errno> {
        let section = Section::Nodes;
        let (mut taken, room) = self.begin_merge(digests, last, section)?;
        while let Head::Node(node) = self.next_merged(&mut taken, room, last, section)? {
            if self.memory.marks.contains(node.id.0) {
                self.memory.marks.insert(node.parent.0);
                self.put(writer, section, &Item::Node(node))?;
            }
        }
        Ok(())
    }

    /// Of threads that are named the last records are carried on, and all of the process.
    fn carry_records(
        &mut self,
        digests: usize,
        last: usize,
        writer: &mut Writer,
    ) -> Result<(), Errno> {
        for index in (0..digests).rev() {
            let Some(digest) = self.memory.digests.get(index).copied() else { continue };
            let [effects, nodes, records] = digest.lengths;
            let offset = digest.offset + u64::from(effects) + u64::from(nodes);
            self.carry_from(offset, records, writer)?;
        }
        for index in 0..MAX_BLOCKS {
            let checkpoint = self.memory.checkpoints.get(last);
            let block = checkpoint.and_then(|last| last.blocks().get(index)).copied();
            if block.is_none() {
                break;
            }
            if let Some(block) = block.filter(|block| block.section == Section::Records) {
                self.carry_from(block.offset, block.bytes, writer)?;
            }
        }
        Ok(())
    }

    /// Carries records on that stand in a part of the file. A thread's are carried on back to its last
    /// start: those that come first are the newest, and those of one part are carried on together.
    fn carry_from(
        &mut self,
        mut offset: u64,
        mut bytes: u32,
        writer: &mut Writer,
    ) -> Result<(), Errno> {
        let (from, length) = (offset, bytes);
        while bytes > 0 {
            let Some((subject, item_bytes)) = self.record_at(offset, bytes)? else { break };
            let wanted = match subject {
                Subject::Thread(ThreadId(thread)) | Subject::ThreadName(ThreadId(thread)) => {
                    self.memory.threads.contains(thread) && !self.memory.named.contains(thread)
                }
                Subject::Process => true,
                Subject::Moment => false,
            };
            if wanted {
                self.copy_record(writer, item_bytes)?;
            }
            offset += u64::from(item_bytes);
            bytes -= item_bytes;
        }
        (offset, bytes) = (from, length);
        while bytes > 0 {
            let Some((subject, item_bytes)) = self.record_at(offset, bytes)? else { break };
            if let Subject::Thread(ThreadId(thread)) = subject {
                self.memory.named.insert(thread);
            }
            offset += u64::from(item_bytes);
            bytes -= item_bytes;
        }
        Ok(())
    }

    /// Reads the record at a place into the buffers: what it is of, and how long its item is.
    fn record_at(&mut self, offset: u64, bytes: u32) -> Result<Option<(Subject, u32)>, Errno> {
        let length = (bytes as usize).min(MOST_BUFFERED / 2);
        let Some(buffer) = self.memory.buffers.get_mut(..length) else { return Ok(None) };
        self.log.read_at(offset, buffer)?;
        let mut state = ItemState::START;
        Ok(match state.read(buffer) {
            Some((Item::Record(record), length)) => Some((record.subject(), length as u32)),
            _ => None,
        })
    }

    /// Carries on the record that was read last.
    fn copy_record(&mut self, writer: &mut Writer, item_bytes: u32) -> Result<(), Errno> {
        if writer.length + item_bytes as usize > BLOCK_BYTES {
            self.flush(writer, Section::Records)?;
        }
        let Memory { buffers, out, .. } = &mut *self.memory;
        let item = buffers.get(..item_bytes as usize).unwrap_or_default();
        let end = writer.length + item.len();
        let Some(place) = out.get_mut(writer.length..end) else { return Err(libc::EFBIG) };
        place.copy_from_slice(item);
        writer.length = end;
        Ok(())
    }

    fn put(&mut self, writer: &mut Writer, section: Section, item: &Item<'_>) -> Result<(), Errno> {
        for _ in 0..2 {
            let out = self.memory.out.get_mut(writer.length..).unwrap_or_default();
            if let Some(length) = writer.state.write(out, item) {
                writer.length += length;
                return Ok(());
            }
            self.flush(writer, section)?;
        }
        Err(libc::EFBIG)
    }

    /// Writes a block of the new checkpoint.
    fn flush(&mut self, writer: &mut Writer, section: Section) -> Result<(), Errno> {
        if writer.length == 0 {
            return Ok(());
        }
        let payload = self.memory.out.get(..writer.length).unwrap_or_default();
        let header = BlockHeader {
            stored_bytes: payload.len() as u64,
            raw_bytes: payload.len() as u32,
            stream: writer.number,
            sequence: writer.blocks,
            ..BlockHeader::empty(BlockKind::Checkpoint)
        };
        let ring = self.log.ring();
        // Where there is no room for what is live, the limit is too low.
        let place = ring.reserve(header.span_bytes(), For::Checkpoint)?.ok_or(libc::EDOM)?;
        let header = BlockHeader { place: place.place, ..header }.with_checksum(payload);
        self.log.write_at_place(&place, &header, payload)?;
        let offset = ring.offset(place.place) + BLOCK_HEADER_BYTES as u64;
        let bytes = payload.len() as u32;
        let next = self.memory.checkpoints.get_mut(writer.number as usize % 2);
        let Some(next) = next else { return Err(libc::EFBIG) };
        let Some(block) = next.blocks.get_mut(next.length) else { return Err(libc::EFBIG) };
        *block = Block { offset, bytes, section };
        next.length += 1;
        writer.blocks += 1;
        (writer.length, writer.state) = (0, ItemState::START);
        Ok(())
    }
}

/// The checkpoint that is made.
struct Writer {
    number: u32,
    blocks: u32,
    length: usize,
    state: ItemState,
}

impl Writer {
    const fn new(number: u32) -> Self {
        Self { number, blocks: 0, length: 0, state: ItemState::START }
    }
}
