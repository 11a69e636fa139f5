//! Carrying on what is live in the ring's oldest segment, so that it can be written over.
//!
//! The segment's digests and the last checkpoint are merged into the next checkpoint: what was seen
//! last of each address, with the nodes and threads that live blocks name. All are sorted, so the merge
//! reads and writes a few bytes of each at a time, and its memory has a bound whatever is live. Which
//! nodes are named is marked in a table of hashes; where two share a mark one is carried on in vain.
//!
//! The file is whole at each moment: the new checkpoint is written where nothing counts, then the commit
//! says that it counts from now on, and only then is the segment written over.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use alloc_trace_format::{
    BLOCK_HEADER_BYTES, BlockHeader, BlockKind, CHUNK_HEADER_BYTES, ChunkHeader, ChunkRow,
    ChunkState, Commit, HeldBlock, Item, ItemState, MAX_ITEM_BYTES, NodeDefinition, NodeId, Rows,
    Stamp, Subject, ThreadId,
};

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
    heap: [u16; MAX_RUNS],
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

/// What is carried, in the order in which a digest and a checkpoint have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Section {
    Effects,
    Nodes,
    Records,
}

/// Where a digest's payload lies, and how long its sections are.
#[derive(Debug, Clone, Copy)]
struct Digested {
    offset: u64,
    lengths: [u32; 3],
}

#[derive(Debug, Clone, Copy)]
struct Block {
    offset: u64,
    bytes: u32,
    section: Section,
}

struct Checkpoint {
    blocks: [Block; MAX_BLOCKS],
    length: usize,
}

/// One sorted row of items, as far as it is read.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Where the next bytes are read, and how many there are.
    offset: u64,
    left: u32,
    /// Of the checkpoint: the block that comes next.
    next_block: u32,
    /// What is read and not decoded yet: a part of the run's own buffer.
    begin: u32,
    end: u32,
    state: ItemState,
    head: Head,
}

/// The first item of a run. Zeroed memory is none.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Head {
    None,
    Held(HeldBlock),
    Released(u64, Stamp),
    Node(NodeDefinition),
}

/// A set of numbers, some of which it has in vain.
struct Marks<const WORDS: usize>([u64; WORDS]);

impl<const WORDS: usize> Marks<WORDS> {
    fn clear(&mut self) {
        self.0.fill(0);
    }

    const fn place(number: u32) -> (usize, u64) {
        let bit = number as usize % (WORDS * 64);
        (bit / 64, 1 << (bit % 64))
    }

    fn insert(&mut self, number: u32) {
        let (word, bit) = Self::place(number);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    fn contains(&self, number: u32) -> bool {
        let (word, bit) = Self::place(number);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }
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
        self.mark_late(segment, &mut oldest, &mut horizon)?;
        if self.windows_seen(segment)? != Some(seen) {
            return Ok(false);
        }
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

    /// Whether a slot's chunk in the window is of the segment's generation or an earlier one, and how
    /// much is in it; `None` where its owner is just writing to it.
    fn old_chunk(
        &self,
        number: usize,
        slot: &Slot,
        segment: u64,
    ) -> Option<Option<(*const u8, ChunkState)>> {
        if u64::from(slot.generation.load(Ordering::Relaxed)) > segment {
            return Some(None);
        }
        let stream = slot.stream.load(Ordering::Relaxed);
        if stream as usize != number {
            // Nobody has taken it yet.
            return Some(None);
        }
        let Some(chunk) = self.log.mapped_chunk(stream) else { return Some(None) };
        // Acquire pairs with the release at the end of a hook. Whoever waits for room in the ring
        // leaves its chunk as it is meanwhile, as this thread does.
        let is_still = ptr::eq(slot, self.own) || slot.waits.load(Ordering::Acquire);
        if slot.busy.load(Ordering::Acquire) && !is_still {
            return None;
        }
        // SAFETY: the state word lies in the chunk's header, aligned to eight bytes.
        let place = unsafe { chunk.as_ptr().add(ChunkHeader::STATE_OFFSET) };
        // SAFETY: as above; the chunk stays mapped while the recording runs.
        let word = unsafe { AtomicU64::from_ptr(place.cast()) };
        let state = ChunkState::from_bits(word.load(Ordering::Acquire));
        Some((state.committed_bytes > 0).then_some((chunk.as_ptr().cast_const(), state)))
    }

    /// A hash of what the old chunks of the window are; `None` where one is just being written.
    fn windows_seen(&self, segment: u64) -> Result<Option<u64>, Errno> {
        let mut seen = 0_u64;
        for (number, slot) in RECORDER.slots.iter().enumerate() {
            match self.old_chunk(number, slot, segment) {
                None => return Ok(None),
                Some(None) => {}
                Some(Some((chunk, state))) => {
                    let mixed = state.to_bits() ^ (chunk.addr() as u64).rotate_left(32);
                    seen = seen.wrapping_add(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                }
            }
        }
        Ok(Some(seen))
    }

    /// Marks what threads' unfinished chunks name that have not met the next generation yet; answers
    /// as [`Self::windows_seen`].
    fn mark_windows(
        &mut self,
        segment: u64,
        oldest: &mut Stamp,
        horizon: &mut Stamp,
    ) -> Result<Option<u64>, Errno> {
        for (number, slot) in RECORDER.slots.iter().enumerate() {
            let (chunk, state) = match self.old_chunk(number, slot, segment) {
                None => return Ok(None),
                Some(None) => continue,
                Some(Some(found)) => found,
            };
            let Memory { marks, threads, chunk: copy, .. } = &mut *self.memory;
            let words = (state.committed_bytes as usize).div_ceil(8).min(copy.len());
            for (index, word) in copy.iter_mut().take(words).enumerate() {
                // SAFETY: within the chunk, whose length is a multiple of eight, behind its header.
                let place = unsafe { chunk.add(CHUNK_HEADER_BYTES + index * 8) };
                // SAFETY: as above. Its owner may wake up and write, so it is read as an atomic; what
                // was read then counts for nothing, as the second look at the slot finds.
                let place = unsafe { AtomicU64::from_ptr(place.cast_mut().cast()) };
                *word = place.load(Ordering::Relaxed);
            }
            let bytes = copy.as_ptr().cast::<u8>();
            let length = (state.committed_bytes as usize).min(copy.len() * 8);
            // SAFETY: so many bytes of the copy are there, of plain numbers.
            let payload = unsafe { std::slice::from_raw_parts(bytes, length) };
            let mut rows = Rows::new(payload);
            let mut is_first = true;
            while let Some(row) = rows.next_row() {
                match row {
                    ChunkRow::Event => marks.insert(rows.event().node.0),
                    ChunkRow::Node(node) => marks.insert(node.parent.0),
                    ChunkRow::Context(thread, stamp) => {
                        threads.insert(thread.0);
                        if is_first {
                            *oldest = (*oldest).min(stamp);
                        }
                        is_first = false;
                    }
                    ChunkRow::Record(_) => {}
                }
            }
            *horizon = (*horizon).max(rows.stamp());
        }
        self.windows_seen(segment)
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
                *place = index as u16;
                taken += 1;
            }
        }
        for at in (0..taken / 2).rev() {
            sift_down(heap.get_mut(..taken).unwrap_or_default(), runs, at);
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
        let index = heap.first().map_or(0, |index| usize::from(*index));
        let (Some(run), Some(checkpoint)) = (runs.get_mut(index), checkpoints.get(last)) else {
            return Ok(Head::None);
        };
        let head = run.head;
        let buffer = buffers.get_mut(index * room..(index + 1) * room).unwrap_or_default();
        run.advance(self.log, checkpoint.blocks(), section, buffer)?;
        if matches!(run.head, Head::None) {
            *taken -= 1;
            heap.swap(0, *taken);
        }
        sift_down(heap.get_mut(..*taken).unwrap_or_default(), runs, 0);
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

    /// Carries records on that stand in a part of the file. A thread's are carried on once: those
    /// that come first are the newest, and the names of one part are carried on together.
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
                Subject::Thread(ThreadId(thread)) => {
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

impl Digested {
    /// What a digest's block header says of the payload at an offset.
    const fn of(header: &BlockHeader, offset: u64) -> Self {
        let records = (header.stored_bytes as u32)
            .saturating_sub(header.raw_bytes)
            .saturating_sub(header.events);
        Self { offset, lengths: [header.raw_bytes, header.events, records] }
    }
}

impl Checkpoint {
    fn blocks(&self) -> &[Block] {
        self.blocks.get(..self.length).unwrap_or_default()
    }
}

impl Head {
    /// An item's address; of no item one that none has.
    const fn place(&self) -> Option<u64> {
        match self {
            Self::Held(held) => Some(held.address),
            Self::Released(address, _) => Some(*address),
            Self::Node(_) | Self::None => None,
        }
    }

    /// Where it stands in the order of its section; at one place and stamp a block that is held is
    /// the last, since it was obtained after the one before was released.
    fn key(&self) -> (u64, Stamp, bool) {
        match *self {
            Self::Held(held) => (held.address, held.stamp, true),
            Self::Released(address, stamp) => (address, stamp, false),
            Self::Node(NodeDefinition { id: NodeId(id), .. }) => (u64::from(!id), 0, false),
            Self::None => (u64::MAX, Stamp::MAX, true),
        }
    }
}

impl Run {
    const fn of_digest(digest: &Digested, section: Section) -> Self {
        let [effects, nodes, records] = digest.lengths;
        let (before, left) = match section {
            Section::Effects => (0, effects),
            Section::Nodes => (effects, nodes),
            Section::Records => (effects + nodes, records),
        };
        Self { offset: digest.offset + before as u64, left, ..Self::of_checkpoint() }
    }

    const fn of_checkpoint() -> Self {
        Self {
            offset: 0,
            left: 0,
            next_block: 0,
            begin: 0,
            end: 0,
            state: ItemState::START,
            head: Head::None,
        }
    }

    /// Goes on to the next item. Blocks of a checkpoint follow where the run has none left: those of
    /// digests have none of the section, since they begin with something.
    fn advance(
        &mut self,
        log: &Log,
        checkpoint: &[Block],
        section: Section,
        buffer: &mut [u8],
    ) -> Result<(), Errno> {
        loop {
            let ready = buffer.get(self.begin as usize..self.end as usize).unwrap_or_default();
            if let Some((item, length)) = self.state.read(ready) {
                self.begin += length as u32;
                self.head = match item {
                    Item::Held(held) => Head::Held(held),
                    Item::Released { address, stamp } => Head::Released(address, stamp),
                    Item::Node(node) => Head::Node(node),
                    Item::Record(_) => return Err(libc::EIO),
                };
                return Ok(());
            }
            let kept = ready.len();
            if self.left == 0 {
                if kept > 0 {
                    // Somebody else wrote there.
                    return Err(libc::EIO);
                }
                let rest = checkpoint.get(self.next_block as usize..).unwrap_or_default();
                let next = rest.iter().position(|block| block.section == section);
                let block = next.and_then(|next| Some((next, rest.get(next)?)));
                let Some((next, block)) = block.filter(|_| self.offset == 0 || self.next_block > 0)
                else {
                    self.head = Head::None;
                    return Ok(());
                };
                self.next_block += next as u32 + 1;
                (self.offset, self.left) = (block.offset, block.bytes);
                self.state = ItemState::START;
            }
            buffer.copy_within(self.begin as usize..self.end as usize, 0);
            let room = buffer.len() - kept;
            let length = room.min(self.left as usize);
            let Some(place) = buffer.get_mut(kept..kept + length).filter(|place| !place.is_empty())
            else {
                return Err(libc::EIO);
            };
            log.read_at(self.offset, place)?;
            self.offset += length as u64;
            self.left -= length as u32;
            (self.begin, self.end) = (0, (kept + length) as u32);
        }
    }
}

/// Restores the order of a heap of runs whose first is the least, from `at` downwards.
fn sift_down(heap: &mut [u16], runs: &[Run], mut at: usize) {
    let key = |index: Option<&u16>| {
        let run = index.and_then(|index| runs.get(usize::from(*index)));
        run.map_or((u64::MAX, Stamp::MAX, true), |run| run.head.key())
    };
    loop {
        let (left, right) = (at * 2 + 1, at * 2 + 2);
        if left >= heap.len() {
            return;
        }
        let least = if right < heap.len() && key(heap.get(right)) < key(heap.get(left)) {
            right
        } else {
            left
        };
        if key(heap.get(at)) <= key(heap.get(least)) {
            return;
        }
        heap.swap(at, least);
        at = least;
    }
}

/// The digests of a segment, one after the other.
struct Walk<'a> {
    log: &'a Log,
    place: u64,
    end: u64,
}

impl<'a> Walk<'a> {
    fn of(log: &'a Log, segment: u64) -> Self {
        let bytes = log.ring().segment_bytes();
        let place = segment * bytes;
        Self { log, place, end: log.ring().head().min(place + bytes) }
    }

    /// The next digest's header, and where its payload lies. With `holes` there may be blocks that are
    /// not written yet; else the first one that is missing is the end.
    fn next_digest(&mut self, holes: bool) -> Result<Option<(BlockHeader, u64)>, Errno> {
        while self.place < self.end {
            let mut bytes = [0; BLOCK_HEADER_BYTES];
            let offset = self.log.ring().offset(self.place);
            self.log.read_at(offset, &mut bytes)?;
            let header = BlockHeader::decode(&bytes).filter(|header| header.place == self.place);
            let Some(header) = header else {
                if !holes {
                    return Ok(None);
                }
                self.place += 64;
                continue;
            };
            self.place += header.span_bytes();
            if header.kind == BlockKind::Digest {
                return Ok(Some((header, offset + BLOCK_HEADER_BYTES as u64)));
            }
        }
        Ok(None)
    }
}
