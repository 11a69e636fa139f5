//! Blocks that are allocated and freed by hand, each written to.

use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;

use super::race::{Done, Raced, race};
use crate::random::Random;

/// A live block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) address: *mut u8,
    pub(super) layout: Layout,
}

// SAFETY: a block belongs to whoever holds it; threads hand it on through channels.
unsafe impl Send for Block {}

impl Block {
    /// Allocates a block and writes its first byte.
    #[inline]
    pub(super) fn new(layout: Layout, byte: u8) -> Self {
        // SAFETY: no layout here is empty.
        let address = unsafe { alloc(layout) };
        assert!(!address.is_null(), "out of memory");
        // SAFETY: the block has at least one byte.
        unsafe { address.write(byte) };
        Self { address: black_box(address), layout }
    }

    /// Frees it and gives its first byte.
    #[inline]
    pub(super) fn free(self) -> u64 {
        // SAFETY: the byte was written when the block was made.
        let byte = unsafe { self.address.read() };
        // SAFETY: a `Block` is freed once, with its own layout.
        unsafe { dealloc(self.address, self.layout) };
        u64::from(byte)
    }
}

/// The layout of a size, aligned to 8.
pub(super) fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a layout")
}

/// One block at a time, of a size that the compiler knows, as a `Box` is.
pub(super) fn pairs<const SIZE: usize>(threads: usize) -> Raced {
    let rounds = 24_000_000 / threads as u64;
    race(threads, |_, start| {
        start.ready();
        let mut checksum = 0;
        for round in 0..rounds {
            let block = Block::new(const { layout_of::<SIZE>() }, round as u8);
            checksum += block.free();
        }
        Done { operations: rounds, checksum }
    })
}

const fn layout_of<const SIZE: usize>() -> Layout {
    match Layout::from_size_align(SIZE, 8) {
        Ok(layout) => layout,
        Err(_) => panic!("no layout"),
    }
}

/// A thousand blocks, freed in the opposite order.
pub(super) fn lifo<const SIZE: usize>(threads: usize) -> Raced {
    const BATCH: u64 = 1000;
    let rounds = 16_000 / threads as u64;
    race(threads, |_, start| {
        let mut blocks = Vec::with_capacity(BATCH as usize);
        start.ready();
        let mut checksum = 0;
        for _ in 0..rounds {
            for index in 0..BATCH {
                blocks.push(Block::new(const { layout_of::<SIZE>() }, index as u8));
            }
            while let Some(block) = blocks.pop() {
                checksum += block.free();
            }
        }
        Done { operations: rounds * BATCH, checksum }
    })
}

/// Ten thousand live blocks of random sizes; one at random is replaced, again and again.
pub(super) fn random(threads: usize) -> Raced {
    let rounds = 10_000_000 / threads as u64;
    race(threads, |index, start| {
        let mut random = Random::new(index as u64 + 1);
        start.ready();
        let checksum = replace(&mut random, 10_000, rounds, Random::size);
        Done { operations: rounds, checksum }
    })
}

/// Replaces random ones of `live` blocks, `rounds` times, and frees them all.
pub(super) fn replace(
    random: &mut Random,
    live: usize,
    rounds: u64,
    size: impl Fn(&mut Random) -> usize,
) -> u64 {
    let mut blocks: Vec<_> = (0..live)
        .map(|index| {
            let layout = layout(size(random));
            Block::new(layout, index as u8)
        })
        .collect();
    let mut checksum = 0u64;
    for round in 0..rounds {
        let index = random.below(live);
        let layout = layout(size(random));
        checksum = checksum.wrapping_add(blocks[index].free());
        blocks[index] = Block::new(layout, round as u8);
    }
    blocks.into_iter().fold(checksum, |checksum, block| checksum.wrapping_add(block.free()))
}

/// A few live blocks of 64 KiB to 4 MiB, replaced at random; only the first byte is written.
pub(super) fn large(threads: usize) -> Raced {
    large_blocks(threads, 160_000, |_| {})
}

/// The same, and every OS page of each new block is written.
pub(super) fn large_touched(threads: usize) -> Raced {
    const OS_PAGE: usize = 4096;
    large_blocks(threads, 3_000, |block| {
        for offset in (0..block.layout.size()).step_by(OS_PAGE).skip(1) {
            // SAFETY: the offset lies in the block.
            let byte = unsafe { block.address.add(offset) };
            // SAFETY: the block is live and belongs to this thread.
            unsafe { byte.write_volatile(1) };
        }
    })
}

fn large_blocks(threads: usize, rounds: u64, touch: impl Fn(&Block) + Sync) -> Raced {
    const LIVE: usize = 8;
    let rounds = rounds / threads as u64;
    race(threads, |index, start| {
        let mut random = Random::new(index as u64 + 1);
        // Sizes are spread evenly over the powers of two, as requests for buffers are.
        let mut make = |round: u64| {
            let power = 16 + random.below(6);
            let size = (1 << power) + random.below(1 << power);
            let block = Block::new(layout(size), round as u8);
            touch(&block);
            (block, random.below(LIVE))
        };
        start.ready();
        let mut live = [None; LIVE];
        let mut checksum = 0;
        for round in 0..rounds {
            let (block, place) = make(round);
            let old: Option<Block> = live[place].replace(block);
            checksum += old.map_or(0, Block::free);
        }
        checksum += live.into_iter().flatten().map(Block::free).sum::<u64>();
        Done { operations: rounds, checksum }
    })
}
