//! Holds a heap against itself.

use core::ptr;

use super::Heap;
use crate::class::Class;
use crate::page::Page;

impl Heap {
    /// What is wrong with this heap, if anything. Its thread asks, between operations.
    pub(crate) fn check(&'static self) -> Result<(), &'static str> {
        for class in Class::all() {
            let mut previous = 0;
            let mut next = class.pick(&self.pages).get();
            while let Some(page) = Page::of_slice(next) {
                if page.class() != class || page.number() != next {
                    return Err("a page is in the list of another class");
                }
                if !ptr::eq(page.owner(), &raw const self.owner) {
                    return Err("a page is in the list of a heap that does not own it");
                }
                if page.local().previous.get() != previous || page.local().listed.get() != 1 {
                    return Err("a page's list is broken");
                }
                if page.free() == 0 {
                    return Err("a page without free blocks is listed");
                }
                page.check()?;
                previous = next;
                next = page.local().next.get();
            }
            if next != 0 {
                return Err("a list of pages leads to no page");
            }
            self.check_cache(class)?;
        }
        Ok(())
    }

    /// Pages in a class's list, whose links were checked.
    pub(crate) fn listed(&self, class: Class) -> usize {
        let next = |page: &Page| Page::of_slice(page.local().next.get());
        core::iter::successors(self.first_page(class), next).count()
    }

    fn check_cache(&'static self, class: Class) -> Result<(), &'static str> {
        if self.is_interrupted(class) {
            return Err("a cache is busy between operations");
        }
        let limit = class.pick(&self.limits).get();
        let top = self.top(class).get();
        let (bottom, end) = (self.bottom(class), self.bottom(class).wrapping_add(limit as usize));
        if limit != 0 && (top < bottom || top > end) || limit > class.shape().cache_blocks_max {
            return Err("a cache holds more than it may");
        }
        // SAFETY: the bottom slot of a live heap's class.
        if !unsafe { &*self.bottom(class) }.get().is_null() {
            return Err("a cache's bottom is not null");
        }
        for index in 1..=limit as usize + 1 {
            // SAFETY: a limit is at most the class's slots, behind which there is one more.
            let slot = unsafe { &*self.bottom(class).wrapping_add(index) };
            if slot.is_end() != (limit != 0 && index == limit as usize + 1) {
                return Err("a cache's end is not where its limit is");
            }
        }
        for block in self.cached_blocks(class) {
            let page = Page::locate(block);
            if page.class() != class {
                return Err("a cached block is of another class");
            }
            if page.is_free(block) {
                return Err("a cached block is free in its page");
            }
        }
        Ok(())
    }
}
