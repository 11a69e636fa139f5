//! What a heap does beside serving requests: it ends with its thread, gives back what a period did not
//! need, is looked after while its thread sleeps, and serves others while it waits for the next one.

use super::{FIRST_LIMIT, Heap};
use crate::class::Class;
use crate::decay::{self, Period};
use crate::page::Page;
use crate::{os, pool};

/// Most bytes that an ending thread leaves in its heap's caches for the next one.
pub(super) const LEFT_BYTES: usize = 64 * 1024;

/// Idle heaps looked through at a time, before more memory is asked of the OS or when some is
/// purged.
const IDLE_MAX: usize = 16;

impl Heap {
    /// The heap's thread ends: the heap waits for the next one. While somebody looks after it, it is left
    /// as it is.
    pub(crate) fn hand_on(&'static self) {
        if self.hold.take() {
            self.leave();
            self.hold.let_go();
        }
        pool::push(self);
    }

    /// What its caches hold stays for the next thread, which is likely to want the same: of the smallest
    /// blocks first, as far as it is not much. The rest goes back to its pages.
    pub(super) fn leave(&'static self) {
        let mut room = LEFT_BYTES;
        for class in Class::all() {
            let cached_bytes = self.cached(class) * class.size();
            match room.checked_sub(cached_bytes) {
                Some(rest) => room = rest,
                None => self.empty_cache(class),
            }
        }
        if !self.owner.inbox.is_empty() {
            self.drain_inbox();
        }
        self.balance.clear();
    }

    /// Hands all cached blocks back to their pages. Empty pages stay for the next thread.
    pub(crate) fn retire(&'static self) {
        for class in Class::all() {
            self.empty_cache(class);
        }
        self.drain_inbox();
    }

    /// Hands a class's cached blocks back to their pages, and lets the cache begin small again.
    pub(super) fn empty_cache(&'static self, class: Class) {
        if self.is_interrupted(class) {
            return;
        }
        if self.cached(class) != 0 {
            self.flush(class, 0);
        }
        if class.pick(&self.limits).get() != 0 {
            self.set_limit(class, FIRST_LIMIT.min(class.shape().cache_blocks));
        }
    }

    /// Keeps nothing but the pages with live blocks.
    pub(crate) fn trim(&'static self) {
        self.retire();
        self.release_unused_pages();
    }

    /// Notes that the fast path was left for a class. In a new period, hands back what the heap
    /// keeps of the classes that were not in use during the last one.
    pub(super) fn keep_time(&'static self, class: Class) {
        let (before, now) = (Period(self.period.get()), decay::tick());
        if now != before {
            self.period.set(now.0);
            self.begin_period();
        }
        self.in_use.replace(class, true);
    }

    /// Whether the heap's thread did not leave the fast path in any of these periods.
    pub(crate) fn is_quiet_since(&self, last: Period, now: Period) -> bool {
        ![last, now].contains(&Period(self.period.get()))
    }

    /// For its sleeping thread: hands back what its caches hold, collects remote frees, gives up pages
    /// without live blocks, and sweeps the others, the first time that it sleeps and whenever others freed
    /// blocks of it. Stops as soon as the thread is back, and goes on when it is called again. Returns the
    /// bytes swept. By the helper of this process.
    pub(crate) fn tend(&'static self, process: u32) -> usize {
        let period = self.period.get();
        let is_tended = self.tended.get() == period;
        if (is_tended && self.owner.inbox.is_empty()) || !self.hold.take_as_helper(process) {
            return 0;
        }
        // A fork that had begun copies the heap as nobody holds it; one that begins from here on, as one
        // that is held.
        if !os::wait_for_forks() {
            self.hold.let_go();
            return 0;
        }
        self.is_rested.set(1);
        let all_taken = self.take_over_caches();
        self.drain_inbox();
        self.release_unused_pages();
        let swept = self.sweep();
        // What was left to a thread that came back it may keep without leaving the fast path.
        if all_taken && !self.hold.is_missed() {
            self.tended.set(period);
        }
        self.balance.clear();
        self.is_rested.set(0);
        self.hold.let_go();
        swept
    }

    pub(super) fn sweep(&self) -> usize {
        let os_page = os::page_bytes();
        let next = |page: &Page| Page::of_slice(page.local().next.get());
        let pages =
            Class::all().flat_map(|class| core::iter::successors(self.first_page(class), next));
        pages.take_while(|_| !self.hold.is_missed()).map(|page| page.sweep(os_page)).sum()
    }

    pub(super) fn begin_period(&'static self) {
        self.balance.begin_period();
        for class in Class::all() {
            let limit = class.pick(&self.limits).get();
            if !self.in_use.replace(class, false) {
                self.empty_cache(class);
                self.release_unused_pages_of(class);
            } else if limit > class.shape().cache_blocks && !self.is_interrupted(class) {
                // What it needs beyond that, it has to show again and again.
                let less = (limit / 2).max(class.shape().cache_blocks);
                self.flush(class, less as usize);
                self.set_limit(class, less);
            }
        }
        self.drain_inbox();
    }

    /// Gives up all pages without live or cached blocks.
    pub(super) fn release_unused_pages(&self) {
        for class in Class::all() {
            self.release_unused_pages_of(class);
        }
    }

    fn release_unused_pages_of(&self, class: Class) {
        let mut next = class.pick(&self.pages).get();
        while let Some(page) = Page::of_slice(next) {
            next = page.local().next.get();
            if page.is_unused() {
                self.give_up(page);
            }
        }
    }

    /// Takes over the pages with free blocks of heaps that wait for a thread.
    pub(super) fn absorb_idle_heaps(&'static self) {
        visit_idle_heaps(|heap| {
            heap.trim();
            for class in Class::all() {
                while let Some(page) = heap.first_page(class) {
                    heap.unlist(page);
                    page.set_owner(&self.owner);
                    self.list(page);
                }
            }
        });
    }
}

/// Gives up what heaps that wait for a thread keep for it.
pub(crate) fn trim_idle_heaps() {
    visit_idle_heaps(Heap::trim);
}

/// Visits heaps that wait for a thread, which meanwhile belong to the caller.
fn visit_idle_heaps(mut visit: impl FnMut(&'static Heap)) {
    // Kept until all were seen: the pool gives the one put back last.
    let mut idle = [None; IDLE_MAX];
    for place in &mut idle {
        *place = pool::take();
        let Some(heap) = *place else { break };
        visit(heap);
    }
    for heap in idle.into_iter().rev().flatten() {
        pool::put(heap);
    }
}
