//! What the hardened heap does with records of its own that a stray write has changed. Each case has a process
//! to itself, which must end when the record is used and say what was found.

use super::{alloc, layout, process};
use crate::class::Class;
use crate::heap::Heap;
use crate::page::Page;
use crate::place::Portable;
use crate::slot::Slot;
use crate::thread;

/// A size of blocks, of which a page has a good many and a word of bits has all.
const SIZE: usize = 1024;

fn class() -> Class {
    Class::of(layout(SIZE, 8)).unwrap()
}

/// The slots of cached blocks, the next one to be handed out first.
fn cached_slots() -> Vec<&'static Slot> {
    let find = |heap: &'static Heap| {
        let top = heap.top(class()).get();
        // SAFETY: a slot of a cached block, in memory that stays.
        (0..heap.cached(class())).map(|below| unsafe { &*top.wrapping_sub(below) }).collect()
    };
    thread::with_own_heap::<Portable, _>(find).unwrap()
}

/// What is in a slot, as a stray read finds it.
fn raw(slot: &Slot) -> *mut u8 {
    slot.0.get()
}

fn ends_with(name: &str, said: &str, case: impl FnOnce()) {
    let said = format!("alloc-core: {said} (address ");
    process::abort(&format!("tests::overwritten::{name}"), &said, case);
}

#[test]
fn a_cache_that_an_address_was_written_into_is_found_and_not_followed() {
    let name = "a_cache_that_an_address_was_written_into_is_found_and_not_followed";
    ends_with(name, "a cache was overwritten, and holds what is no block", || {
        let live = alloc(layout(SIZE, 8));
        cached_slots()[0].0.set(live);
        alloc(layout(SIZE, 8));
    });
}

#[test]
fn a_cache_that_a_slot_was_copied_in_is_found() {
    ends_with(
        "a_cache_that_a_slot_was_copied_in_is_found",
        "a cache was overwritten, and holds a live block",
        || {
            alloc(layout(SIZE, 8));
            let slots = cached_slots();
            slots[1].0.set(raw(slots[0]));
            alloc(layout(SIZE, 8));
            alloc(layout(SIZE, 8));
        },
    );
}

#[test]
fn free_bits_that_were_set_for_live_blocks_are_found() {
    ends_with(
        "free_bits_that_were_set_for_live_blocks_are_found",
        "a cache was overwritten, and holds a live block",
        || {
            let blocks = class().shape().blocks;
            let live: Vec<_> = (0..blocks / 2).map(|_| alloc(layout(SIZE, 8))).collect();
            let page = Page::locate(live[0]);
            page.local().bits[0].set(page.blocks_of_word(0));
            // As many as are left in the page: of those some were live, in whatever order they come.
            (0..blocks / 2).for_each(|_| _ = alloc(layout(SIZE, 8)));
        },
    );
}

#[test]
fn free_bits_that_were_cleared_are_found() {
    ends_with(
        "free_bits_that_were_cleared_are_found",
        "a page has fewer free blocks than it counts",
        || {
            let page = Page::locate(alloc(layout(SIZE, 8)));
            assert!(page.free() > 0);
            page.local().bits.iter().for_each(|word| word.set(0));
            (0..class().shape().blocks).for_each(|_| _ = alloc(layout(SIZE, 8)));
        },
    );
}

#[test]
fn what_a_cache_holds_is_no_address() {
    process::succeed("tests::overwritten::what_a_cache_holds_is_no_address", || {
        let first = alloc(layout(SIZE, 8));
        let slots = cached_slots();
        assert!(slots.len() > 2);
        for slot in &slots {
            assert_ne!(raw(slot), slot.get());
            // Addresses of user space have none of these bits: whoever follows it gets a fault.
            assert!(raw(slot).addr() >> 47 & 1 != 0 || raw(slot).addr() >> 63 != 0);
            assert_eq!(Page::locate(slot.get()).class(), class());
        }
        assert_eq!(Page::locate(first).class(), class());
    });
}

#[test]
fn pointers_in_caches_are_encoded_otherwise_in_each_process() {
    let name = "tests::overwritten::pointers_in_caches_are_encoded_otherwise_in_each_process";
    let keys = [(); 2].map(|()| {
        let output = process::run(name, || {
            alloc(layout(SIZE, 8));
            let slots = cached_slots();
            let keys: Vec<_> =
                slots.iter().map(|slot| raw(slot).addr() ^ slot.get().addr()).collect();
            assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
            println!("\nkey {:#x}", keys[0]);
        })?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Some(said.lines().find(|line| line.starts_with("key ")).expect("a key").to_owned())
    });
    let [Some(first), Some(second)] = keys else { return };
    assert_ne!(first, second);
}
