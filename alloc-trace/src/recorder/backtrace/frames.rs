//! The frames of a backtrace, as columns: what is compared with memory at each event lies together.

use super::super::call_tree::Path;
use super::super::unwind_rules::CALLS_PUSH;
use super::Frame;
use super::walk::return_address;

/// Room for frames: as many as there may be, and for the new ones of a change that are gathered from the
/// other end. A deep backtrace that changes by more gives up remembered frames for them.
pub(super) const CAPACITY: usize = super::MAX_DEPTH + 12;

/// Where calls push it, the return address lies directly below the stack pointer.
const ADDRESS_SLOTS: usize = if CALLS_PUSH { 0 } else { CAPACITY };

/// Stands for a register that the frame inside left as it was: nothing is saved above a frame.
pub(super) const NO_SLOT: i16 = 0;

/// A row for each frame, the outermost first. Zeroed memory is valid.
#[derive(Debug)]
pub(super) struct Frames {
    stack_pointers: [u64; CAPACITY],
    addresses: [u64; CAPACITY],
    frame_pointers: [u64; CAPACITY],
    /// From the stack pointer to the slot that the frame pointer was read from, in words, twice; one added
    /// where the frame pointer matters.
    frame_pointer_slots: [i16; CAPACITY],
    /// From the stack pointer to the slot that the address was read from, in words.
    address_slots: [i16; ADDRESS_SLOTS],
    paths: [Path; CAPACITY],
    /// Which frames have a frame pointer that matters and was read from a slot, the outermost first: they
    /// are few, and not searched for each time.
    saving: [u8; CAPACITY],
    saving_count: u8,
    /// How many of the outermost frames lie on other stacks than the innermost one.
    on_other_stacks: u8,
    /// Whether a frame pointer may matter. In most code none does.
    any_matters: bool,
}

const _: () = assert!(CAPACITY <= u8::MAX as usize);

/// Set beside a slot where the frame pointer read from it matters.
const MATTERS: i16 = 1;

impl Frames {
    #[cfg(test)]
    pub(super) const NONE: Self = Self {
        stack_pointers: [0; CAPACITY],
        addresses: [0; CAPACITY],
        frame_pointers: [0; CAPACITY],
        frame_pointer_slots: [NO_SLOT; CAPACITY],
        address_slots: [-1; ADDRESS_SLOTS],
        paths: [Path::NONE; CAPACITY],
        saving: [0; CAPACITY],
        saving_count: 0,
        on_other_stacks: 0,
        any_matters: false,
    };

    /// How many of the outermost frames lie on other stacks than the innermost one.
    #[inline(always)]
    pub(super) fn on_other_stacks(&self) -> usize {
        usize::from(self.on_other_stacks)
    }

    pub(super) const fn set_on_other_stacks(&mut self, count: usize) {
        self.on_other_stacks = count as u8;
    }

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
    pub(super) fn path(&self, index: usize) -> Path {
        self.paths.get(index).copied().unwrap_or(Path::NONE)
    }

    #[inline(always)]
    pub(super) fn set_path(&mut self, index: usize, path: Path) {
        if let Some(place) = self.paths.get_mut(index) {
            *place = path;
        }
    }

    #[inline(always)]
    pub(super) fn set_address(&mut self, index: usize, address: u64) {
        if let Some(place) = self.addresses.get_mut(index) {
            *place = address;
        }
    }

    #[inline(always)]
    pub(super) fn set_frame_pointer(&mut self, index: usize, frame_pointer: u64) {
        if let Some(place) = self.frame_pointers.get_mut(index) {
            *place = frame_pointer;
        }
    }

    /// Sets where a frame was read from, as [`Frame`] has it. Whether its frame pointer matters stays.
    #[inline(always)]
    pub(super) fn set_slots(&mut self, index: usize, address_slot: i16, frame_pointer_slot: i16) {
        let matters = self.matters(index);
        self.put_slots(index, address_slot, frame_pointer_slot);
        self.set_matters(index, matters);
    }

    /// Whether a frame was read from these slots.
    #[inline(always)]
    pub(super) fn has_slots(
        &self,
        index: usize,
        address_slot: i16,
        frame_pointer_slot: i16,
    ) -> bool {
        (CALLS_PUSH || self.address_slot(index) == address_slot)
            && self.frame_pointer_slot(index) == frame_pointer_slot
    }

    #[inline(always)]
    fn put_slots(&mut self, index: usize, address_slot: i16, frame_pointer_slot: i16) {
        if let Some(place) = self.frame_pointer_slots.get_mut(index) {
            *place = frame_pointer_slot << 1;
        }
        if let Some(place) = self.address_slots.get_mut(index) {
            *place = address_slot;
        }
    }

    /// Whether the way outwards depends on the frame pointer of a frame.
    #[inline(always)]
    pub(super) fn matters(&self, index: usize) -> bool {
        self.frame_pointer_slots.get(index).is_some_and(|slot| slot & MATTERS != 0)
    }

    #[inline(always)]
    pub(super) fn set_matters(&mut self, index: usize, matters: bool) {
        self.any_matters |= matters;
        if let Some(slot) = self.frame_pointer_slots.get_mut(index) {
            *slot = *slot & !MATTERS | if matters { MATTERS } else { 0 };
        }
    }

    /// The way outwards from the frame at `index` depends on its frame pointer: and so on those of the
    /// frames further in, as far as they left it in its register.
    pub(super) fn mark(&mut self, index: usize) {
        self.any_matters = true;
        for slot in self.frame_pointer_slots.get_mut(index..).unwrap_or_default() {
            *slot |= MATTERS;
            if *slot >> 1 != NO_SLOT {
                return;
            }
        }
    }

    /// Lists anew which frames from `index` on, of `length`, are compared by their frame pointers.
    #[inline(always)]
    pub(super) fn list(&mut self, index: usize, length: usize) {
        if self.any_matters {
            self.list_saving(index, length);
        }
    }

    fn list_saving(&mut self, index: usize, length: usize) {
        while let Some(last) = self.saving_count.checked_sub(1)
            && self.saving.get(usize::from(last)).is_none_or(|&saving| usize::from(saving) >= index)
        {
            self.saving_count = last;
        }
        for index in index..length.min(CAPACITY) {
            if self.matters(index) && self.frame_pointer_slot(index) != NO_SLOT {
                if let Some(place) = self.saving.get_mut(usize::from(self.saving_count)) {
                    *place = index as u8;
                }
                self.saving_count += 1;
            }
        }
    }

    /// Puts a frame there, whose frame pointer does not matter as far as is known; nor is its path. Who
    /// puts one among those kept calls [`Self::list`].
    #[inline(always)]
    pub(super) fn put(&mut self, index: usize, frame: &Frame) {
        if let Some(place) = self.stack_pointers.get_mut(index) {
            *place = frame.stack_pointer;
        }
        self.set_address(index, frame.address);
        self.set_frame_pointer(index, frame.frame_pointer);
        self.put_slots(index, frame.address_slot, frame.frame_pointer_slot);
    }

    /// Moves one frame, all but its path.
    #[inline(always)]
    pub(super) fn shift(&mut self, from: usize, to: usize) {
        fn shift<T: Copy>(column: &mut [T], from: usize, to: usize) {
            if let Some(&value) = column.get(from)
                && let Some(place) = column.get_mut(to)
            {
                *place = value;
            }
        }
        shift(&mut self.stack_pointers, from, to);
        shift(&mut self.addresses, from, to);
        shift(&mut self.frame_pointers, from, to);
        shift(&mut self.frame_pointer_slots, from, to);
        shift(&mut self.address_slots, from, to);
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
        self.frame_pointer_slots.get(index).map_or(NO_SLOT, |slot| slot >> 1)
    }

    /// Whether memory still holds the `count` outermost frames, with the frame pointers that matter.
    ///
    /// Most often all of them are as they were. So there is no branch for each frame, and no load
    /// waits for another one. But other stacks are there only as far as all inside is as it was.
    #[inline(always)]
    pub(super) fn are_unchanged(&self, count: usize) -> bool {
        let first = self.on_other_stacks().min(count);
        let mut differences = self.address_differences(first, count);
        let saving = self.saving.get(..usize::from(self.saving_count)).unwrap_or_default();
        for index in saving.iter().map(|&index| usize::from(index)) {
            if index >= count {
                break;
            }
            if index >= first {
                differences |= self.frame_pointer_difference(index);
            }
        }
        differences == 0 && (first == 0 || self.innermost_changed(first).is_none())
    }

    /// Not zero where memory does not hold the address of each of these frames.
    #[inline(always)]
    fn address_differences(&self, first: usize, end: usize) -> u64 {
        if !CALLS_PUSH {
            return (first..end).fold(0, |all, index| all | self.address_difference(index));
        }
        const TOGETHER: usize = 4;
        let stack_pointers = self.stack_pointers.get(first..end).unwrap_or_default();
        let addresses = self.addresses.get(first..end).unwrap_or_default();
        let all = |stack_pointers: &[u64], addresses: &[u64]| {
            let pairs = stack_pointers.iter().zip(addresses);
            pairs.fold(0, |all, (stack_pointer, address)| {
                all | return_address(read(*stack_pointer, -1)) ^ address
            })
        };
        let (Some(last_stack_pointers), Some(last_addresses)) =
            (stack_pointers.last_chunk::<TOGETHER>(), addresses.last_chunk::<TOGETHER>())
        else {
            return all(stack_pointers, addresses);
        };
        // The last few are compared together too, though some of them twice.
        let mut differences = all(last_stack_pointers, last_addresses);
        let (stack_pointers, _) = stack_pointers.as_chunks::<TOGETHER>();
        let (addresses, _) = addresses.as_chunks::<TOGETHER>();
        for (stack_pointers, addresses) in stack_pointers.iter().zip(addresses) {
            differences |= all(stack_pointers, addresses);
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

    /// The innermost of the `count` outermost frames that memory does not hold any more, if any. Nothing
    /// outside of it is read.
    pub(super) fn innermost_changed(&self, count: usize) -> Option<usize> {
        (0..count).rev().find(|&index| {
            self.address_difference(index) != 0
                || self.matters(index) && self.frame_pointer_difference(index) != 0
        })
    }

    /// What memory holds of the frame's frame pointer; `None` where it was left in its register.
    #[inline(always)]
    fn saved_frame_pointer(&self, index: usize) -> Option<u64> {
        let slot = self.frame_pointer_slot(index);
        (slot != NO_SLOT).then(|| read(self.stack_pointer(index), slot))
    }

    /// Makes the frame pointer of a frame be what it is now: it is read from the slot of the nearest
    /// frame further in, up to `innermost`, whose own one is known.
    #[cold]
    pub(super) fn refresh_frame_pointer(&mut self, index: usize, innermost: usize) {
        let saved = (index..innermost)
            .find_map(|inner| self.saved_frame_pointer(inner).map(|held| (inner, held)));
        let (source, held) = saved.unwrap_or((innermost, self.frame_pointer(innermost)));
        for place in self.frame_pointers.get_mut(index..=source).unwrap_or_default() {
            *place = held;
        }
    }
}

/// Reads a slot that a remembered frame was read from.
#[inline(always)]
fn read(stack_pointer: u64, slot: i16) -> u64 {
    let address = stack_pointer.wrapping_add_signed(i64::from(slot) * 8);
    let place = std::ptr::with_exposed_provenance::<u64>(address as usize);
    // SAFETY: the slot was read when the frame was unwound, and lies further out than the running
    // frame on the stack that this thread stands on, or on one that waits for it, by all frames inside: it
    // is readable as long as that stack is. What it holds may be anything and is only compared.
    unsafe { place.read_volatile() }
}
