//! A script of bytes as a program's use of the heap: what a fuzzer makes up, and what a test makes
//! up at random where there is no fuzzer. Every script is one; it ends with its bytes.

use std::thread;

use alloc_core::CoreAlloc;

use crate::model::{Model, Operation};

const HEAP: CoreAlloc = CoreAlloc::new();

/// Most bytes of live blocks: a script that asks for more has its oldest blocks freed.
const LIVE_BYTES: usize = 64 << 20;

/// What is left of a script.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<usize> {
        Some(usize::from(self.byte()?) << 8 | usize::from(self.byte()?))
    }

    /// A number of any magnitude up to 8 MiB, with the small ones and those around powers of two
    /// easy to come by.
    fn size(&mut self) -> Option<usize> {
        let number = self.number()?;
        let (shift, low) = (number >> 12, number & 0xfff);
        Some(match shift {
            0..6 => low,
            6..13 => low << (shift - 5),
            _ => ((1usize << (low % 24)) + (low >> 8)).saturating_sub(8),
        })
    }
}

/// Plays a script on the heap, compared with the model, and checks the whole heap in the end, and when
/// blocks were freed by another thread or memory went back to the OS.
/// Nothing else may use the heap meanwhile.
pub(crate) fn play(script: &[u8]) {
    let mut script = Script(script);
    let mut model = Model::new(HEAP);
    while step(&mut script, &mut model).is_some() {
        while model.live_bytes() > LIVE_BYTES {
            model.step(Operation::Free { which: 0 });
        }
    }
    HEAP.check_all().expect("a whole heap");
    model.free_all();
    HEAP.check_all().expect("a whole heap");
    assert_eq!(HEAP.stats().live_blocks(), 0);
}

fn step(script: &mut Script<'_>, model: &mut Model<CoreAlloc>) -> Option<()> {
    let kind = script.byte()?;
    let align_shift = u32::from(kind >> 4);
    match kind & 15 {
        0..5 => model.step(Operation::Alloc { size: script.size()?, align_shift }),
        5..7 => model.step(Operation::AllocZeroed { size: script.size()?, align_shift }),
        7..10 => {
            let which = script.byte()?.into();
            model.step(Operation::Realloc { which, size: script.size()? });
        }
        10..13 => model.step(Operation::Free { which: script.byte()?.into() }),
        13 => {
            free_elsewhere(model, script.byte()?.into());
            HEAP.check_all().expect("a whole heap");
        }
        14 => {
            // Many of a size: pages that fill up.
            let size = script.size()? % 5000;
            for _ in 0..script.byte()? {
                model.step(Operation::Alloc { size, align_shift: 3 });
            }
        }
        _ => {
            HEAP.purge();
            HEAP.check_all().expect("a whole heap");
        }
    }
    Some(())
}

/// A thread of its own takes over some blocks, allocates others, frees them all, and ends.
fn free_elsewhere(model: &mut Model<CoreAlloc>, count: usize) {
    let blocks: Vec<_> = (0..count).filter_map(|which| model.remove(which * 7)).collect();
    let other = thread::spawn(move || {
        let mut other = Model::new(HEAP);
        for block in blocks {
            other.insert(block);
            other.step(Operation::Alloc { size: count * 3, align_shift: 4 });
        }
        other.free_all();
    });
    other.join().expect("its blocks are whole");
}
