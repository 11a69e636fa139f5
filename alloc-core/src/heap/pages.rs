//! The pages that a heap owns: those of each class that have free blocks are a list, and those that
//! others freed blocks of wait in its inbox.

use core::ptr;

use super::Heap;
use crate::class::Class;
use crate::owner::OwnerU32;
use crate::page::Page;
use crate::{arena, purger};

impl Heap {
    /// A page of this class with free blocks.
    pub(super) fn first_page(&self, class: Class) -> Option<Page> {
        Page::of_slice(class.pick(&self.pages).get())
    }

    /// A new page of this class, listed. Asks the OS only when idle heaps have nothing to spare.
    pub(super) fn claim_page(&'static self, class: Class) -> Option<Page> {
        let mut page = Page::claim(&self.owner, class);
        if page.is_none() {
            self.absorb_idle_heaps();
            if let Some(page) = self.first_page(class) {
                return Some(page);
            }
            page = Page::claim(&self.owner, class);
        }
        // Others may take what one of us reserved, hence the loop.
        while page.is_none() && arena::reserve() {
            page = Page::claim(&self.owner, class);
        }
        if page.is_none() {
            // Memory is out: what this heap keeps for other classes is needed now.
            self.trim();
            if let Some(page) = self.first_page(class) {
                return Some(page);
            }
            page = Page::claim(&self.owner, class);
        }
        self.list(page?);
        page
    }

    /// Puts a page at the front of its class's list.
    pub(super) fn list(&self, page: Page) {
        let first = class_list(self, page);
        let next = first.get();
        if let Some(next) = Page::of_slice(next) {
            next.local().previous.set(page.number());
        }
        page.local().next.set(next);
        page.local().previous.set(0);
        page.local().listed.set(1);
        first.set(page.number());
    }

    /// Takes a page out of its class's list.
    pub(super) fn unlist(&self, page: Page) {
        let local = page.local();
        let (next, previous) = (local.next.get(), local.previous.get());
        if let Some(next) = Page::of_slice(next) {
            next.local().previous.set(previous);
        }
        match Page::of_slice(previous) {
            Some(previous) => previous.local().next.set(next),
            None => class_list(self, page).set(next),
        }
        local.listed.set(0);
    }

    /// Looks at an own page after blocks of it were freed: lists it if it was full, gives it up if
    /// it is empty now, unless it is the class's last with free blocks.
    #[inline(always)]
    pub(super) fn settle(&self, page: Page) {
        if page.local().listed.get() == 0 || page.free() == page.class().shape().blocks {
            self.settle_changed(page);
        }
    }

    /// [`settle`](Self::settle) of a page that was full, or has only free blocks.
    #[inline(never)]
    fn settle_changed(&self, page: Page) {
        let local = page.local();
        if local.listed.get() == 0 {
            if page.free() == 0 {
                return;
            }
            self.list(page);
        }
        let is_only = local.next.get() == 0 && local.previous.get() == 0;
        if !is_only && page.is_unused() {
            self.give_up(page);
        }
    }

    /// Gives up a listed page without live or cached blocks.
    pub(super) fn give_up(&self, page: Page) {
        self.unlist(page);
        page.release(self.is_rested.get() != 0);
        purger::slices_were_freed(page.class().shape().slices as usize);
    }

    /// Collects the remote frees of all posted pages.
    pub(super) fn drain_inbox(&'static self) {
        let mut posted = self.owner.inbox.take();
        while let Some(page) = Page::of_slice(posted) {
            // Read before `collect`, which lets others post the page again.
            posted = page.remote().next();
            if ptr::eq(page.owner(), &raw const self.owner) {
                page.collect();
                self.settle(page);
            } else {
                page.post_to_owner();
            }
        }
    }
}

/// The head of the list that a page belongs in.
fn class_list(heap: &Heap, page: Page) -> &OwnerU32 {
    page.class().pick(&heap.pages)
}
