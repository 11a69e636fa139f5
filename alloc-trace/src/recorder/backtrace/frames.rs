//! The frames of a backtrace, as columns: what is compared with memory at each event lies together.

use alloc_trace_format::NodeId;

use super::super::call_tree::Path;
use super::super::unwind_rules::CALLS_PUSH;
use super::Frame;
use super::walk::return_address;

/// Room for frames.
pub(super) const CAPACITY: usize = super::MAX_DEPTH + 24;

/// Where calls push it, the return address lies directly below the stack pointer.
const ADDRESS_SLOTS: usize = if CALLS_PUSH { 0 } else { CAPACITY };

/// Stands for a register that the frame inside left as it was.
pub(super) const NO_SLOT: i16 = i16::MIN;

/// A row for each frame, the outermost first. Zeroed memory is valid.
#[derive(Debug)]
pub(super) struct Frames {
    stack_pointers: [u64; CAPACITY],
    addresses: [u64; CAPACITY],
    frame_pointers: [u64; CAPACITY],
    /// From the stack pointer to the slot that the frame pointer was read from, in words.
    frame_pointer_slots: [i16; CAPACITY],
    /// From the stack pointer to the slot that the address was read from, in words.
    address_slots: [i16; ADDRESS_SLOTS],
    nodes: [NodeId; CAPACITY],
    paths: [Path; CAPACITY],
}

impl Frames {
    #[cfg(test)]
    pub(super) const NONE: Self = Self {
        stack_pointers: [0; CAPACITY],
        addresses: [0; CAPACITY],
        frame_pointers: [0; CAPACITY],
        frame_pointer_slots: [NO_SLOT; CAPACITY],
        address_slots: [-1; ADDRESS_SLOTS],
        nodes: [NodeId::ROOT; CAPACITY],
        paths: [Path::of_root(NodeId::ROOT); CAPACITY],
    };

    #[inline(always)]
    pub(super) fn stack_pointer(&self, index: usize) -> u64 {
        self.stack_pointers.get(index).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub(super) fn address(&self, index: usize) -> u64 {
        self.addresses.get(index).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub(super) fn frame_pointer(&self, index: usize) -> u64 {
        self.frame_pointers.get(index).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub(super) fn node(&self, index: usize) -> NodeId {
        self.nodes.get(index).copied().unwrap_or(NodeId::ROOT)
    }

    #[inline(always)]
    pub(super) fn path(&self, index: usize) -> Path {
        self.paths.get(index).copied().unwrap_or(Path::of_root(NodeId::ROOT))
    }

    #[inline(always)]
    pub(super) fn set_node(&mut self, index: usize, node: NodeId) {
        if let Some(place) = self.nodes.get_mut(index) {
            *place = node;
        }
    }

    #[inline(always)]
    pub(super) fn set_path(&mut self, index: usize, path: Path) {
        if let Some(place) = self.paths.get_mut(index) {
            *place = path;
        }
    }

    /// Puts a frame there; its node and its path are not known yet.
    #[inline(always)]
    pub(super) fn put(&mut self, index: usize, frame: &Frame) {
        if let Some(place) = self.stack_pointers.get_mut(index) {
            *place = frame.stack_pointer;
        }
        if let Some(place) = self.addresses.get_mut(index) {
            *place = frame.address;
        }
        if let Some(place) = self.frame_pointers.get_mut(index) {
            *place = frame.frame_pointer;
        }
        if let Some(place) = self.frame_pointer_slots.get_mut(index) {
            *place = frame.frame_pointer_slot;
        }
        if let Some(place) = self.address_slots.get_mut(index) {
            *place = frame.address_slot;
        }
    }

    /// Moves one frame outwards.
    #[inline(always)]
    pub(super) fn shift(&mut self, from: usize, to: usize) {
        let frame = self.frame(from);
        self.put(to, &frame);
    }

    /// Moves the frames from `from` up to `end` inwards, to where those from `to` on lie.
    pub(super) fn move_inwards(&mut self, from: usize, end: usize, to: usize) {
        for index in (from..end).rev() {
            self.shift(index, to + (index - from));
        }
    }

    #[inline(always)]
    pub(super) fn frame(&self, index: usize) -> Frame {
        Frame {
            address: self.address(index),
            stack_pointer: self.stack_pointer(index),
            frame_pointer: self.frame_pointer(index),
            address_slot: self.address_slot(index),
            frame_pointer_slot: self.frame_pointer_slot(index),
        }
    }

    #[inline(always)]
    fn address_slot(&self, index: usize) -> i16 {
        self.address_slots.get(index).copied().unwrap_or(-1)
    }

    #[inline(always)]
    fn frame_pointer_slot(&self, index: usize) -> i16 {
        self.frame_pointer_slots.get(index).copied().unwrap_or(NO_SLOT)
    }

    /// The innermost of the `count` outermost frames that memory does not hold any more, if any. Of
    /// the `with_frame_pointers` outermost the frame pointers count too.
    #[inline(always)]
    pub(super) fn innermost_changed(
        &self,
        count: usize,
        with_frame_pointers: usize,
    ) -> Option<usize> {
        let mut differences = self.address_differences(count);
        for index in 0..count.min(with_frame_pointers) {
            differences |= self.frame_pointer_difference(index);
        }
        if differences == 0 { None } else { self.search_changed(count, with_frame_pointers) }
    }

    /// Not zero where memory does not hold the address of each of the `count` outermost frames.
    ///
    /// Most often all of them are as they were. So there is no branch for each frame, and no load
    /// waits for another one.
    #[inline(always)]
    fn address_differences(&self, count: usize) -> u64 {
        if !CALLS_PUSH {
            return (0..count).fold(0, |all, index| all | self.address_difference(index));
        }
        let difference = |(stack_pointer, address): (&u64, &u64)| {
            return_address(read(*stack_pointer, -1)) ^ address
        };
        let stack_pointers = self.stack_pointers.get(..count).unwrap_or_default();
        let addresses = self.addresses.get(..count).unwrap_or_default();
        let (stack_pointers, few_stack_pointers) = stack_pointers.as_chunks::<8>();
        let (addresses, few_addresses) = addresses.as_chunks::<8>();
        let mut differences = 0;
        for (stack_pointers, addresses) in stack_pointers.iter().zip(addresses) {
            for pair in stack_pointers.iter().zip(addresses) {
                differences |= difference(pair);
            }
        }
        for pair in few_stack_pointers.iter().zip(few_addresses) {
            differences |= difference(pair);
        }
        differences
    }

    /// Not zero where memory does not hold the frame's address any more.
    #[inline(always)]
    fn address_difference(&self, index: usize) -> u64 {
        let held = read(self.stack_pointer(index), self.address_slot(index));
        return_address(held) ^ self.address(index)
    }

    /// Not zero where memory does not hold the frame's frame pointer any more.
    #[inline(always)]
    fn frame_pointer_difference(&self, index: usize) -> u64 {
        self.saved_frame_pointer(index).map_or(0, |held| held ^ self.frame_pointer(index))
    }

    #[cold]
    #[inline(never)]
    fn search_changed(&self, count: usize, with_frame_pointers: usize) -> Option<usize> {
        (0..count).rev().find(|&index| {
            let counts = index < with_frame_pointers;
            self.address_difference(index) != 0
                || counts && self.frame_pointer_difference(index) != 0
        })
    }

    /// What memory holds of the frame's frame pointer; `None` where it was left in its register.
    #[inline(always)]
    fn saved_frame_pointer(&self, index: usize) -> Option<u64> {
        let slot = self.frame_pointer_slot(index);
        (slot != NO_SLOT).then(|| read(self.stack_pointer(index), slot))
    }

    /// Makes the frame pointer of a frame be what it is now: it is read from the slot of the nearest
    /// frame further in, up to `innermost`, whose own one is known. Answers whose it was.
    #[cold]
    pub(super) fn refresh_frame_pointer(&mut self, index: usize, innermost: usize) -> usize {
        let saved = (index..innermost)
            .find_map(|inner| self.saved_frame_pointer(inner).map(|held| (inner, held)));
        let (source, held) = saved.unwrap_or((innermost, self.frame_pointer(innermost)));
        for place in self.frame_pointers.get_mut(index..=source).unwrap_or_default() {
            *place = held;
        }
        source
    }
}

/// Reads a slot that a remembered frame was read from.
#[inline(always)]
fn read(stack_pointer: u64, slot: i16) -> u64 {
    let address = stack_pointer.wrapping_add_signed(i64::from(slot) * 8);
    let place = std::ptr::with_exposed_provenance::<u64>(address as usize);
    // SAFETY: the slot was read when the frame was unwound, and lies further out than the running
    // frame on a stack that this thread stands on or interrupted: it is readable as long as that stack
    // is. What it holds may be anything and is only compared.
    unsafe { place.read_volatile() }
}
