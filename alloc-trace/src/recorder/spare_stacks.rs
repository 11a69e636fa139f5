//! Stacks for work that needs a few KiB and is soon done: the unwind tables of an address that was not
//! met before.
//!
//! The caller's own may be a signal handler's, of 8 KiB, most of which is in use. A workroom has one, but
//! rooms are few, and taken for as long as it takes to pack a chunk.

use super::workroom::{Furnishing, Rooms};

/// Sixteen threads can work at the same time. A table takes 5 KiB, and three times as much where the recorder
/// is not optimised. What is not used takes no memory.
pub(super) type SpareStacks = Rooms<(), STACKS, STACK_BYTES>;

const STACKS: usize = 16;
const STACK_BYTES: usize = 64 << 10;

impl Furnishing for () {
    unsafe fn furnish(_place: *mut Self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_one_threads_until_it_is_left() {
        fn here() -> usize {
            let local = 0_u8;
            (&raw const local).addr() & !(STACK_BYTES - 1)
        }
        fn nested(stacks: &SpareStacks, found: &mut Vec<usize>) {
            let _ = stacks.enter(|()| {
                found.push(here());
                nested(stacks, found);
            });
        }
        let stacks = SpareStacks::new();
        let mut found = Vec::new();
        nested(&stacks, &mut found);
        found.push(here());
        let first = found[0];
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), STACKS + 1, "two are one");
        assert_eq!(stacks.enter(|()| here()), Some(first));
    }
}
