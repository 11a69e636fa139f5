//! Stacks for work that needs a few KiB and is soon done: the unwind tables of an address that was not
//! met before.
//!
//! The caller's own may be a signal handler's, of 8 KiB, most of which is in use. A workroom has one, but
//! rooms are few, and taken for as long as it takes to pack a chunk.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::{stack_switch, sys};

/// How many threads can work at the same time.
const STACKS: usize = 16;
/// A table takes 5 KiB, and three times as much where the recorder is not optimised; a signal handler that
/// interrupts it needs what it needs. What is not used takes no memory.
const STACK_BYTES: usize = 64 << 10;
/// Where a stack runs over there is no memory.
const GUARD_BYTES: usize = 64 << 10;

/// The stacks of the process, made as they are needed and never given back.
#[derive(Debug)]
pub(super) struct SpareStacks {
    stacks: [SpareStack; STACKS],
}

#[derive(Debug)]
struct SpareStack {
    taken: AtomicBool,
    /// The address behind it.
    end: AtomicPtr<u8>,
}

impl SpareStacks {
    pub(super) const fn new() -> Self {
        Self { stacks: [const { SpareStack::new() }; STACKS] }
    }

    /// Does some work on one of them; `None` where all are taken, or memory is short.
    ///
    /// The work must not panic.
    pub(super) fn enter<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        // Acquire pairs with the release below: the stack's end is seen by who takes it next.
        let stack = self.stacks.iter().find(|stack| !stack.taken.swap(true, Ordering::Acquire))?;
        // SAFETY: the stack was taken, so it is this thread's, and nothing in the recorder panics.
        let result = stack.end().map(|end| unsafe { stack_switch::call_on(end, work) });
        stack.taken.store(false, Ordering::Release);
        result
    }

    /// The process was forked: whoever was on one is not in this process.
    pub(super) fn abandon(&self) {
        for stack in &self.stacks {
            stack.taken.store(false, Ordering::Release);
        }
    }
}

impl SpareStack {
    const fn new() -> Self {
        Self { taken: AtomicBool::new(false), end: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Where it ends; it is made where there is none. It is taken by the caller.
    fn end(&self) -> Option<*mut u8> {
        let end = self.end.load(Ordering::Relaxed);
        if !end.is_null() {
            return Some(end);
        }
        let memory = sys::map_anonymous(GUARD_BYTES + STACK_BYTES)?;
        sys::protect(memory, GUARD_BYTES);
        // SAFETY: the end of the mapping.
        let end = unsafe { memory.add(GUARD_BYTES + STACK_BYTES) }.as_ptr();
        self.end.store(end, Ordering::Relaxed);
        Some(end)
    }
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
            let _ = stacks.enter(|| {
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
        assert_eq!(stacks.enter(here), Some(first));
    }
}
