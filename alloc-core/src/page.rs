//! Pages: runs of slices cut into blocks of one size class.
//!
//! Which blocks are free is kept in bits, not in lists through the blocks. So freeing touches no
//! block (its memory may be cold, and a write after free cannot damage the heap), a batch of
//! neighbours is one word, blocks are handed out in the order of their addresses, and a block freed
//! twice is found out.
//!
//! There are two sets of bits: the *local* ones, which the page's owner keeps to itself, and the
//! *remote* ones, which other threads set and the owner takes over (see [`remote`](crate::remote)).

use core::ptr::NonNull;

use crate::arena::{self, Arena};
use crate::class::{Class, Shape};
use crate::fatal::fatal;
use crate::hardened::marks::Marks;
use crate::hardened::secret;
use crate::owner::OwnerU64;
use crate::record::{Kind, Local, Owner, Remote, WORDS};
use crate::segment::{SLICE_SHIFT, SLICES, mask};
use crate::slot::Slot;
use crate::{counters, os};

/// A page, by its first slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    arena: &'static Arena,
    /// Number of the first slice.
    number: u32,
    class: Class,
}

/// Where the blocks of a page are: what is needed to find many blocks' bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    start: usize,
    /// Of all blocks together: what is left of the page behind them is none.
    bytes: usize,
    reciprocal: u64,
}

/// A block's place among the bits of its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) word: usize,
    pub(crate) bit: u64,
}

/// Where in a page an address lies.
#[derive(Clone, Copy, Debug)]
enum Found {
    /// At the start of the block of this number.
    Start(usize),
    /// Inside of a block.
    Inside,
    /// Behind the page's last block or in another page.
    Outside,
}

impl Extent {
    /// Where an address lies in the page.
    ///
    /// The product of an offset and the reciprocal has the quotient as its high word. Its low word is
    /// less than the reciprocal if the division has no rest: Lemire, Kaser and Kurz, *Faster remainder by
    /// direct computation* (2019).
    #[inline(always)]
    fn look_up(&self, block: *mut u8) -> Found {
        let offset = block.addr().wrapping_sub(self.start);
        if offset >= self.bytes {
            return Found::Outside;
        }
        let product = offset as u128 * u128::from(self.reciprocal);
        if product as u64 >= self.reciprocal {
            Found::Inside
        } else {
            Found::Start((product >> 64) as usize)
        }
    }

    /// The number of a block in its page, or `None` if it lies behind the page's last one or in another
    /// page. Ends the process if it lies in a block and does not begin it.
    #[inline(always)]
    fn index(&self, block: *mut u8) -> Option<usize> {
        match self.look_up(block) {
            Found::Start(index) => Some(index),
            Found::Inside => {
                fatal("freed an address that is not the start of a block", block.addr())
            }
            Found::Outside => None,
        }
    }

    /// The place of a block, like [`index`](Self::index).
    #[inline]
    pub(crate) fn place(&self, block: *mut u8) -> Option<Place> {
        self.index(block).map(Place::of)
    }

    /// The place of a block; `None` if none of this page begins there.
    pub(crate) fn find(&self, block: *mut u8) -> Option<Place> {
        match self.look_up(block) {
            Found::Start(index) => Some(Place::of(index)),
            Found::Inside | Found::Outside => None,
        }
    }
}

impl Place {
    /// That of the block with a number.
    fn of(index: usize) -> Self {
        Self { word: index / 64, bit: 1 << (index % 64) }
    }
}

impl Page {
    /// Claims a page for `owner` from what is reserved.
    pub(crate) fn claim(owner: &'static Owner, class: Class) -> Option<Self> {
        let shape = class.shape();
        let (arena, slice, _) = arena::claim_for_page(shape.slices)?;
        let page = Self { arena, number: arena.first_slice() + slice as u32, class };
        for back in 0..shape.slices {
            let slice = slice + back as usize;
            arena.head(slice).describe_page(owner, back);
            arena.set_kind(slice, Kind::Page(class));
        }
        let local = page.local();
        let mut rest = shape.blocks;
        for word in &local.bits {
            if rest == 0 {
                break;
            }
            let here = rest.min(u64::BITS);
            word.set(u64::MAX >> (u64::BITS - here));
            rest -= here;
        }
        local.free.set(shape.blocks);
        local.lowest.set(0);
        local.swept.set(0);
        counters::PAGE_SLICES.add(shape.slices as usize);
        Some(page)
    }

    /// Gives the page up. Its blocks are all free and nobody is about to touch its record:
    /// [`is_unused`](Self::is_unused). If its memory was unused for a period already, it goes back to the
    /// OS when the next one ends.
    pub(crate) fn release(self, is_rested: bool) {
        let shape = self.class.shape();
        for word in self.local().bits.iter().take(self.words()) {
            word.set(0);
        }
        self.local().free.set(0);
        for back in 0..shape.slices as usize {
            self.arena.set_kind(self.slice() + back, Kind::None);
        }
        counters::PAGE_SLICES.sub(shape.slices as usize);
        if is_rested {
            self.arena.release_rested(self.slice(), shape.slices);
        } else {
            self.arena.release(self.slice(), shape.slices);
        }
    }

    /// The page that a slice number lies in.
    #[inline]
    pub(crate) fn of_slice(number: u32) -> Option<Self> {
        let arena = arena::get(number)?;
        let slice = arena::slice_index(number);
        let class = arena.class(slice)?;
        Some(Self { arena, number: number.wrapping_sub(arena.head(slice).back().into()), class })
    }

    /// The page that a block lies in. Ends the process if it lies in none.
    #[inline]
    pub(crate) fn locate(block: *mut u8) -> Self {
        let page = arena::slice_number(block.addr()).and_then(Self::of_slice);
        page.unwrap_or_else(|| fatal("freed a block that is not ours", block.addr()))
    }

    /// Where the blocks of this page are.
    #[inline]
    pub(crate) fn extent(self) -> Extent {
        let Shape { size, reciprocal, blocks, .. } = *self.class.shape();
        let start = (self.number as usize) << SLICE_SHIFT;
        Extent { start, bytes: (blocks * size) as usize, reciprocal }
    }

    pub(crate) fn class(self) -> Class {
        self.class
    }

    /// Number of its first slice.
    #[inline]
    pub(crate) fn number(self) -> u32 {
        self.number
    }

    /// Index of its first slice in the arena.
    #[inline(always)]
    fn slice(self) -> usize {
        arena::slice_index(self.number)
    }

    /// Address of the first block.
    fn start(self) -> *mut u8 {
        self.arena.segment(self.slice()).slice(self.slice() as u32 % SLICES)
    }

    pub(crate) fn owner(self) -> *mut Owner {
        self.arena.head(self.slice()).owner()
    }

    /// Hands the page to another heap. Only its owner does so; a thread that still posts it to the
    /// old one is answered by the old one's passing it on.
    pub(crate) fn set_owner(self, owner: &'static Owner) {
        for back in 0..self.class.shape().slices as usize {
            self.arena.head(self.slice() + back).set_owner(owner);
        }
    }

    pub(crate) fn local(&self) -> &'static Local {
        // SAFETY: a `Page` is made by who claims it, or finds out that it is there.
        unsafe { self.arena.local(self.slice()) }
    }

    pub(crate) fn remote(&self) -> &'static Remote {
        // SAFETY: a `Page` is made by who claims it, or finds out that it is there.
        unsafe { self.arena.remote(self.slice()) }
    }

    pub(crate) fn marks(&self) -> &'static Marks {
        // SAFETY: a `Page` is made by who claims it, or finds out that it is there.
        unsafe { self.arena.marks(self.slice()) }
    }

    /// Bytes of all its slices.
    pub(crate) fn bytes(self) -> usize {
        (self.class.shape().slices as usize) << SLICE_SHIFT
    }

    /// Words of bits in use.
    pub(crate) fn words(self) -> usize {
        (self.class.shape().blocks as usize).div_ceil(64)
    }

    /// Blocks free on the owner's side.
    pub(crate) fn free(self) -> u32 {
        self.local().free.get()
    }

    /// Whether the page can be given up. Only its owner may ask.
    pub(crate) fn is_unused(self) -> bool {
        self.free() == self.class.shape().blocks && self.remote().is_settled()
    }

    /// Takes `count` free blocks, at most [`free`](Self::free), into the slots from `slots` up, the
    /// lowest address last, so that it is the first to be used.
    ///
    /// # Safety
    ///
    /// `slots` is valid for writes of `count` slots.
    pub(crate) unsafe fn take(self, count: u32, slots: *mut Slot) {
        if secret::RANDOM_ORDER {
            // SAFETY: passed on.
            return unsafe { self.take_at_random(count, slots) };
        }
        let local = self.local();
        let size = self.class.size();
        let start = self.start();
        let mut rest = count as usize;
        let mut word = local.lowest.get() as usize;
        while rest != 0 {
            let Some(bits_word) = local.bits.get(word) else {
                fatal("a page has fewer free blocks than it counts", start.addr())
            };
            let mut bits = bits_word.get();
            let lowest = bits & bits.wrapping_neg();
            // All free from the lowest on, as in a new page: no bit has to be looked for.
            if bits.wrapping_add(lowest) == 0 && bits != 0 {
                let index = bits.trailing_zeros();
                let run = (u64::BITS - index).min(rest as u32);
                let mut block = start.wrapping_add((word * 64 + index as usize) * size);
                for _ in 0..run {
                    rest -= 1;
                    // SAFETY: `rest` is below `count`, and the caller vouches for `count` slots.
                    let slot = unsafe { slots.add(rest) };
                    // SAFETY: as above; slots are only ever reached through raw pointers and as
                    // atomics.
                    unsafe { &*slot }.set(block);
                    block = block.wrapping_add(size);
                }
                bits &= !(mask(index, run));
            }
            while bits != 0 && rest != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                rest -= 1;
                // SAFETY: `rest` is below `count`, and the caller vouches for `count` slots.
                let slot = unsafe { slots.add(rest) };
                // SAFETY: as above; slots are only ever reached through raw pointers and as
                // atomics.
                unsafe { &*slot }.set(start.wrapping_add(index * size));
            }
            bits_word.set(bits);
            if bits == 0 {
                word += 1;
            }
        }
        local.lowest.set(word as u32);
        local.free.set(local.free.get() - count);
    }

    /// Takes `count` free blocks like [`take`](Self::take), whichever they are.
    ///
    /// # Safety
    ///
    /// As for [`take`](Self::take).
    #[cold]
    unsafe fn take_at_random(self, count: u32, slots: *mut Slot) {
        let local = self.local();
        let words = self.words();
        let mut empty = 0;
        let mut rest = count as usize;
        let mut word = secret::random(words as u32) as usize;
        while rest != 0 {
            let bits = local.bits.get(word).map_or(0, OwnerU64::get);
            if bits == 0 {
                empty += 1;
                if empty > words {
                    fatal("a page has fewer free blocks than it counts", self.start().addr());
                }
                word = if word + 1 < words { word + 1 } else { 0 };
                continue;
            }
            empty = 0;
            let turn = secret::random(u64::BITS);
            let bit = (bits.rotate_right(turn).trailing_zeros() + turn) % u64::BITS;
            if let Some(bits_word) = local.bits.get(word) {
                bits_word.set(bits & !(1 << bit));
            }
            rest -= 1;
            let block = self.start().wrapping_add((word * 64 + bit as usize) * self.class.size());
            // SAFETY: `rest` is below `count`, and the caller vouches for `count` slots.
            let slot = unsafe { slots.add(rest) };
            // SAFETY: as above; slots are only ever reached through raw pointers and as atomics.
            unsafe { &*slot }.set(block);
            word = secret::random(words as u32) as usize;
        }
        local.free.set(local.free.get() - count);
    }

    /// The blocks that a word has bits for.
    pub(crate) fn blocks_of_word(self, word: usize) -> u64 {
        let blocks = (self.class.shape().blocks as usize).saturating_sub(word * 64).min(64);
        if blocks == 0 { 0 } else { u64::MAX >> (64 - blocks) }
    }

    /// Frees blocks of one word on the owner's side.
    #[inline]
    pub(crate) fn set_local_bits(self, word: usize, bits: u64) {
        let local = self.local();
        let Some(target) = local.bits.get(word) else { return };
        if target.get() & bits != 0 {
            fatal("a block was freed twice, in page", self.start().addr());
        }
        target.set(target.get() | bits);
        local.free.set(local.free.get() + bits.count_ones());
        if (word as u32) < local.lowest.get() {
            local.lowest.set(word as u32);
        }
    }

    /// Frees blocks on the owner's side: of the `count` in the slots from `slots` up those before the
    /// first one that lies in another page. Returns how many.
    ///
    /// A word of bits stays in a register as long as blocks have their bits in it: stored for each of
    /// them, the next one would wait for it to come back.
    ///
    /// # Safety
    ///
    /// - `slots` is valid for reads of `count` slots, which hold blocks.
    #[inline(always)]
    pub(crate) unsafe fn put(self, slots: *mut Slot, count: usize) -> usize {
        const { assert!(WORDS <= 64, "there is a bit for each word") };
        let local = self.local();
        let extent = self.extent();
        let end = slots.wrapping_add(count);
        let mut slot = slots;
        let index_at = |slot: *mut Slot| {
            if slot == end {
                return None;
            }
            // SAFETY: one of the `count` slots.
            extent.index(unsafe { &*slot }.get())
        };
        let mut words = 0;
        let mut next = index_at(slot);
        while let Some(mut index) = next {
            let word = index / 64;
            // SAFETY: an offset in the blocks of a page, divided by the size of each, is below their
            // number, and there are bits for all of them.
            let place = unsafe { local.bits.get_unchecked(word) };
            let mut bits = place.get();
            next = loop {
                let with = bits | 1 << (index % 64);
                if with == bits {
                    let block = self.start().wrapping_add(index * self.class.size());
                    fatal("a block was freed twice", block.addr());
                }
                bits = with;
                slot = slot.wrapping_add(1);
                match index_at(slot) {
                    Some(other) if other / 64 == word => index = other,
                    other => break other,
                }
            };
            place.set(bits);
            words |= 1u64 << word;
        }
        let freed = (slot.addr() - slots.addr()) / size_of::<Slot>();
        local.lowest.set(local.lowest.get().min(words.trailing_zeros()));
        local.free.set(local.free.get() + freed as u32);
        freed
    }

    /// Frees blocks on the remote side, like [`put`](Self::put), without counting them yet. Neighbours
    /// share the writing of their bits, which is dear here.
    ///
    /// # Safety
    ///
    /// As for [`put`](Self::put).
    pub(crate) unsafe fn put_remotely(self, slots: *mut Slot, count: usize) -> usize {
        let extent = self.extent();
        let mut word = 0;
        let mut bits = 0;
        let mut freed = 0;
        while freed < count {
            // SAFETY: `freed` is below `count`.
            let block = unsafe { &*slots.wrapping_add(freed) }.get();
            let Some(place) = extent.place(block) else { break };
            // A block that is here twice is found when its bit is set the second time.
            if place.word != word || bits & place.bit != 0 {
                self.set_remote_bits(word, bits);
                word = place.word;
                bits = 0;
            }
            bits |= place.bit;
            freed += 1;
        }
        self.set_remote_bits(word, bits);
        freed
    }

    /// Frees blocks of one word on the remote side, without counting them yet.
    #[inline]
    pub(crate) fn set_remote_bits(self, word: usize, bits: u64) {
        if bits != 0 && !self.remote().set(word, bits) {
            fatal("a block was freed twice, in page", self.start().addr());
        }
    }

    /// Posts the page to whoever owns it, by a thread that has the duty to.
    pub(crate) fn post_to_owner(self) {
        // SAFETY: a page's owner is a live heap's, and heaps are never unmapped.
        if let Some(owner) = unsafe { self.owner().as_ref() } {
            owner.inbox.post(self.number(), self.remote());
        }
    }

    /// Takes the remote frees of a page that was posted.
    pub(crate) fn collect(self) {
        self.remote().collect(self.words(), |word, bits| self.set_local_bits(word, bits));
    }

    /// Gives back the OS's pages, of `os_page` bytes, in which all blocks are free on the owner's
    /// side: for a page that is not likely to be used soon. Returns the bytes. What was done before is
    /// not done again while as many blocks are free.
    pub(crate) fn sweep(self, os_page: usize) -> usize {
        let local = self.local();
        if local.swept.get() == local.free.get() {
            return 0;
        }
        local.swept.set(local.free.get());
        let blocks = self.class.shape().blocks as usize;
        let mut swept = 0;
        let mut first = self.next_block(0, |free| free);
        while first < blocks {
            let end = self.next_block(first, |free| !free);
            let start = (first * self.class.size() + (os_page - 1)) & !(os_page - 1);
            // Behind the last block there is nothing.
            let stop = if end == blocks { self.bytes() } else { end * self.class.size() };
            let bytes = (stop & !(os_page - 1)).saturating_sub(start);
            let range = NonNull::new(self.start().wrapping_add(start)).filter(|_| bytes != 0);
            if range.is_some() {
                self.arena.part(arena::slice_index(self.number));
            }
            // SAFETY: the range lies in this page, begins and ends with an OS page, and holds but
            // parts of blocks that are free, which nobody hands out meanwhile: the caller owns the
            // page.
            if range.is_some_and(|range| unsafe { os::purge(range, bytes) }) {
                swept += bytes;
            }
            first = self.next_block(end, |free| free);
        }
        swept
    }

    /// The first block from `from` on whose bit is set in what `pick` makes of the free bits, or the
    /// number of blocks.
    fn next_block(self, from: usize, pick: impl Fn(u64) -> u64) -> usize {
        let blocks = self.class.shape().blocks as usize;
        let mut behind = u64::MAX << (from % 64);
        let words = self.local().bits.iter().enumerate().take(self.words()).skip(from / 64);
        for (index, word) in words {
            let bits = pick(word.get()) & behind;
            if bits != 0 {
                return blocks.min(index * 64 + bits.trailing_zeros() as usize);
            }
            behind = u64::MAX;
        }
        blocks
    }

    /// The blocks of a word that are free on either side.
    pub(crate) fn free_bits(self, word: usize) -> u64 {
        self.local().bits.get(word).map_or(0, OwnerU64::get) | self.remote().bits(word)
    }

    /// Whether a block of this page is free on either side.
    pub(crate) fn is_free(self, block: *mut u8) -> bool {
        let Some(Place { word, bit }) = self.extent().place(block) else { return false };
        self.free_bits(word) & bit != 0
    }

    /// What is wrong with the page's record, if anything. Only its owner may ask.
    pub(crate) fn check(self) -> Result<(), &'static str> {
        let local = self.local();
        let mut free = 0;
        for (index, word) in local.bits.iter().enumerate() {
            let bits = word.get();
            free += bits.count_ones();
            if bits & !self.blocks_of_word(index) != 0 {
                return Err("a page has free bits past its last block");
            }
            if bits != 0 && index < local.lowest.get() as usize {
                return Err("a page has free bits below its lowest word");
            }
            if self.remote().bits(index) & bits != 0 {
                return Err("a block is free both locally and remotely");
            }
        }
        if free != local.free.get() {
            return Err("a page counts other than its free bits");
        }
        for back in 0..self.class.shape().slices {
            let slice = self.slice() + back as usize;
            let kind = self.arena.kind(slice);
            let leads_back = self.arena.head(slice).back();
            if kind != Kind::Page(self.class) || u32::from(leads_back) != back {
                return Err("a slice of a page does not lead to its first");
            }
            if self.arena.segment(slice).free() & (1 << (slice as u32 % SLICES)) != 0 {
                return Err("a slice of a page is free");
            }
        }
        Ok(())
    }
}
