use core::alloc::Layout;

use super::*;

fn class(size: usize) -> Class {
    Class::of(Layout::from_size_align(size, 1).unwrap()).unwrap()
}

/// A block of the heap's cache, which is refilled if it is empty.
fn take(heap: &'static Heap, class: Class) -> *mut u8 {
    let block = heap.top(class).pop();
    if block.is_null() && heap.refill(class) { heap.top(class).pop() } else { block }
}

/// Gives a block to the heap's cache, which makes room for it if it is full.
fn give(heap: &'static Heap, class: Class, block: *mut u8) {
    if !heap.top(class).push(block) {
        heap.make_room(class);
        assert!(heap.top(class).push(block));
    }
}

/// Frees a block that was written to as another thread does: the hardened heap clears what is freed,
/// or whoever is given the memory next finds it written to.
fn free_remotely_after_writes(class: Class, block: *mut u8) {
    // SAFETY: a live block of the class, which the test gives up.
    unsafe { crate::hardened::scrub::clear(block, class.size()) };
    free_remotely(block);
}

/// A heap that no thread has, with all blocks of one page of a class taken.
fn heap_with_full_page(class: Class) -> (&'static Heap, Vec<*mut u8>, Page) {
    let heap = Heap::make().unwrap();
    let count = class.shape().blocks as usize;
    let blocks: Vec<_> = (0..count).map(|_| take(heap, class)).collect();
    let page = Page::locate(blocks[0]);
    assert!(blocks.iter().all(|block| page.extent().place(*block).is_some()));
    (heap, blocks, page)
}

#[test]
fn remote_frees_wait_in_the_inbox_until_the_owner_looks() {
    let class = class(4096);
    let (heap, blocks, page) = heap_with_full_page(class);
    assert_eq!((page.free(), page.local().listed.get()), (0, 0));
    for block in &blocks {
        free_remotely(*block);
    }
    assert_eq!(page.free(), 0);
    assert!(!page.is_unused());
    heap.drain_inbox();
    assert_eq!((page.free(), page.local().listed.get()), (class.shape().blocks, 1));
    assert!(page.is_unused());
    heap.check().unwrap();
    heap.release_unused_pages();
    assert_eq!(heap.first_page(class).map(Page::number), None);
    heap.check().unwrap();
}

#[test]
fn a_page_posted_to_its_former_owner_is_passed_on() {
    let class = class(2048);
    let (old, blocks, page) = heap_with_full_page(class);
    let new = Heap::make().unwrap();
    free_remotely(blocks[0]);
    page.set_owner(&new.owner);
    free_remotely(blocks[1]);
    old.drain_inbox();
    assert_eq!(page.free(), 0);
    new.drain_inbox();
    assert_eq!(page.free(), 2);
    for block in &blocks[2..] {
        free_remotely(*block);
    }
    new.drain_inbox();
    assert!(page.is_unused());
    new.check().unwrap();
    old.check().unwrap();
    new.release_unused_pages();
}

#[test]
fn what_a_whole_period_did_not_need_is_handed_back() {
    let class = class(3000);
    let (heap, blocks, _) = heap_with_full_page(class);
    for block in &blocks {
        give(heap, class, *block);
    }
    assert_ne!(heap.cached(class), 0);
    // It was in use in the period that ends here, and not in the next.
    heap.begin_period();
    assert_ne!(heap.cached(class), 0);
    heap.check().unwrap();
    heap.begin_period();
    assert_eq!((heap.cached(class), heap.first_page(class).map(Page::number)), (0, None));
    heap.check().unwrap();
}

#[test]
fn a_sweep_leaves_only_the_os_pages_of_live_blocks() {
    let os_page = os::page_bytes();
    for size in [64, 200, 3000, 20_000] {
        let class = class(size);
        let (heap, blocks, page) = heap_with_full_page(class);
        for block in &blocks {
            // SAFETY: a live block of the class.
            unsafe { block.write_bytes(7, class.size()) };
        }
        let kept = blocks.len() / 2;
        for block in blocks.iter().take(kept).chain(&blocks[kept + 1..]) {
            free_remotely_after_writes(class, *block);
        }
        heap.drain_inbox();
        let bytes = page.bytes();
        let first = (blocks[kept].addr() / os_page) * os_page;
        let end = (blocks[kept].addr() + class.size()).next_multiple_of(os_page);
        assert_eq!(page.sweep(os_page), bytes - (end - first), "{size}");
        assert_eq!(page.sweep(os_page), 0, "there was nothing new");
        let start = blocks.iter().map(|block| block.addr()).min().unwrap();
        let resident = os::resident_bytes(start, bytes);
        assert_eq!(resident, end - first, "{size}");
        // SAFETY: the live block.
        let left = unsafe { core::slice::from_raw_parts(blocks[kept], class.size()) };
        assert!(left.iter().all(|byte| *byte == 7));
        heap.check().unwrap();
        free_remotely_after_writes(class, blocks[kept]);
        heap.drain_inbox();
        assert!(page.is_unused());
        heap.release_unused_pages();
    }
}

#[test]
fn a_thread_that_gives_back_much_keeps_little_in_its_caches() {
    let classes: Vec<_> = [32, 48, 64].map(class).into();
    let heap = Heap::make().unwrap();
    let blocks: Vec<_> = (0..300_000)
        .map(|index| {
            let class = classes[index % 3];
            (class, take(heap, class))
        })
        .collect();
    for (class, block) in blocks {
        give(heap, class, block);
    }
    heap.check().unwrap();
    for class in classes {
        assert!(heap.cached(class) <= FIRST_LIMIT as usize, "{}", heap.cached(class));
    }
    heap.trim();
}

#[test]
fn the_first_block_of_a_class_is_kept_where_much_was_given_back_before() {
    let (class, other) = (class(256), class(10_000));
    let (giver, heap) = (Heap::make().unwrap(), Heap::make().unwrap());
    let blocks: Vec<_> =
        (0..MUCH_BYTES as usize / class.size() * 2).map(|_| take(heap, class)).collect();
    for block in blocks {
        give(heap, class, block);
        if heap.returned_bytes.get() >= MUCH_BYTES {
            break;
        }
    }
    assert!(heap.returned_bytes.get() >= MUCH_BYTES, "that is what is tested");
    // Another thread's block, of a class that this one never asked for.
    give(heap, other, take(giver, other));
    assert_eq!(heap.cached(other), 1);
    heap.check().unwrap();
}

#[test]
fn a_flush_keeps_the_newest_blocks() {
    let class = class(1024);
    let (heap, blocks, _) = heap_with_full_page(class);
    let capacity = class.shape().cache_blocks as usize;
    for block in &blocks[..capacity] {
        assert!(heap.top(class).push(*block));
    }
    assert!(!heap.top(class).push(blocks[capacity]));
    heap.flush(class, 5);
    heap.check().unwrap();
    let kept: Vec<_> = (0..5).map(|_| heap.top(class).pop()).collect();
    let newest: Vec<_> = blocks[..capacity].iter().rev().take(5).copied().collect();
    assert_eq!(kept, newest);
    assert!(heap.top(class).pop().is_null());
}

#[test]
fn a_cache_that_is_only_given_to_keeps_an_eighth() {
    let class = class(1024);
    let heap = Heap::make().unwrap();
    let blocks: Vec<_> = (0..300).map(|_| take(heap, class)).collect();
    let mut flushes = 0;
    for block in blocks {
        let before = heap.cached(class);
        give(heap, class, block);
        let limit = class.pick(&heap.limits).get() as usize;
        if heap.cached(class) <= before {
            assert_eq!((before, heap.cached(class)), (limit, limit / 8 + 1));
            flushes += 1;
        }
    }
    assert!(flushes > 1);
    heap.check().unwrap();
    heap.trim();
}

#[test]
fn an_ended_threads_caches_keep_the_smallest_blocks() {
    let heap = Heap::make().unwrap();
    let cached_bytes =
        || -> usize { Class::all().map(|class| heap.cached(class) * class.size()).sum() };
    for class in Class::all() {
        let block = take(heap, class);
        give(heap, class, block);
    }
    let small = [16, 64, 256].map(class);
    let kept = small.map(|class| heap.cached(class));
    assert!(cached_bytes() > 2 * upkeep::LEFT_BYTES);
    free_remotely(take(heap, class(20_000)));
    heap.leave();
    heap.check().unwrap();
    assert_eq!(small.map(|class| heap.cached(class)), kept);
    assert!(cached_bytes() <= upkeep::LEFT_BYTES);
    assert!(heap.owner.inbox.is_empty());
    heap.trim();
}
