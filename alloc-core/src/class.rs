//! Size classes: which requests share blocks of one size.
//!
//! Classes are 16 bytes apart up to 256 bytes, then eight to each doubling (12.5 % apart at most) up to
//! [`FINE_FROM`], then [`FINE`] to each doubling up to [`SMALL_MAX`]: there a step is hundreds of bytes,
//! half of which each block wastes. For sizes that are not known when compiling, a table by multiples
//! of 16 is shorter than the formula; for those that are, both fold to a number.
//!
//! Alignment needs no search either. Every class size is a multiple of its own spacing, so a size
//! rounded up to a multiple of the alignment lands in a class that is one too: where the spacing is
//! smaller than the alignment the rounded size is a class of its own, and where it is larger every
//! class is a multiple. Pages start at multiples of [`SLICE`], so their blocks are then aligned.

use core::alloc::Layout;
use core::ops::Range;

use crate::segment::SLICE;

/// Number of size classes.
pub(crate) const CLASSES: usize =
    COARSE_CLASSES + FINE * (SMALL_MAX.ilog2() - FINE_FROM.ilog2()) as usize;

/// Largest request that is served from a page of equal blocks.
pub(crate) const SMALL_MAX: usize = 32 * 1024;

/// Largest class of those that are 16 bytes apart, or eight to each doubling.
const FINE_FROM: usize = 4096;

/// Classes up to [`FINE_FROM`].
const COARSE_CLASSES: usize = 16 + 8 * (FINE_FROM.ilog2() - 256usize.ilog2()) as usize;

/// Classes to each doubling beyond. Twice as many would save a database with its own pages more, but of
/// what programs free, less could be used again.
const FINE: usize = 16;

/// Fewest blocks in a page: what a page of large blocks wastes when one of them is live.
const BLOCKS_MIN: usize = 8;

/// Most slices of a page.
const PAGE_SLICES_MAX: usize = 4;

/// One of so many bytes of a page may be lost behind its last block, if there is a way.
const LOST_PART: usize = 128;

/// Bytes of an OS page, as nearly all systems have it.
const USUAL_OS_PAGE: usize = 4096;

/// Bytes of one class that a thread's cache may hold, and those that it may hold once its thread has
/// shown that it takes and gives back more than that again and again.
const CACHE_BYTES: usize = 32 * 1024;
const CACHE_BYTES_MAX: usize = 256 * 1024;

/// Most blocks of one class in a thread's cache, and fewest.
const CACHE_BLOCKS_MAX: usize = 1024;
const CACHE_BLOCKS_MIN: usize = 4;

/// As many blocks of a size as have so many bytes, within the bounds above.
const fn cache_blocks(bytes: usize, size: usize) -> u32 {
    let blocks = bytes / size;
    if blocks > CACHE_BLOCKS_MAX {
        CACHE_BLOCKS_MAX as u32
    } else if blocks < CACHE_BLOCKS_MIN {
        CACHE_BLOCKS_MIN as u32
    } else {
        blocks as u32
    }
}

/// A size class, as the number that leads to its cache: see [`CacheIndex`]. That is what every request
/// asks of it; what else there is of each class is asked off the fast path, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(u8);

/// What is fixed for a class, computed at compile time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Bytes of a block.
    pub(crate) size: u32,
    /// `ceil(2^64 / size)`: the high word of an offset's product with it is the offset divided by the
    /// size.
    pub(crate) reciprocal: u64,
    /// Blocks in a page.
    pub(crate) blocks: u32,
    /// Slices in a page.
    pub(crate) slices: u32,
    /// Blocks that a thread's cache may hold without more ado.
    pub(crate) cache_blocks: u32,
    /// Blocks that it holds at most, and has slots for.
    pub(crate) cache_blocks_max: u32,
    /// Where this class's cache starts in the heap's array of slots once it is larger than
    /// [`SHORT_CACHE`].
    pub(crate) first_slot: u32,
}

impl Shape {
    /// Slots behind the short part.
    const fn slots(&self) -> u32 {
        if self.cache_blocks_max > SHORT_CACHE { self.cache_blocks_max + 2 } else { 0 }
    }
}

impl Class {
    /// Where the cache starts in the heap's array of slots that may hold so many blocks.
    pub(crate) fn first_slot(self, limit: u32) -> usize {
        if limit <= SHORT_CACHE {
            self.index() * SHORT_SLOTS as usize
        } else {
            self.shape().first_slot as usize
        }
    }

    /// The class that serves a layout, or `None` if it is too large for one. A size of 0 is served
    /// like 1.
    #[inline(always)]
    pub(crate) const fn of(layout: Layout) -> Option<Self> {
        // Every class is a multiple of the grain. The comparison is mostly made when compiling, since
        // a type's alignment is known then even where the number of elements is not.
        if layout.align() <= GRAIN {
            return Self::of_size(layout.size());
        }
        let mask = layout.align() - 1;
        // An empty block too has its alignment.
        let size = layout.size() | (layout.size() == 0) as usize;
        // No overflow: a layout's size rounded up to its alignment is at most `isize::MAX`.
        Self::of_size((size + mask) & !mask)
    }

    /// The class that serves a size without an alignment, or `None` if it is too large for one. A
    /// size of 0 is served like 1.
    #[inline(always)]
    pub(crate) const fn of_size(size: usize) -> Option<Self> {
        if size > SMALL_MAX {
            return None;
        }
        // The comparison above is all that is left of the bounds check.
        Some(Self(CACHE_BY_SIZE[size.div_ceil(GRAIN)]))
    }

    /// The class of a size from 1 to [`SMALL_MAX`], as the formula has it.
    const fn by_formula(size: usize) -> Self {
        let w = size - 1;
        let highest = (w | 0x80).ilog2();
        let index = if w < FINE_FROM {
            let step = highest - 3;
            (w >> step) + 8 * (step as usize - 4)
        } else {
            let doublings = (highest - FINE_FROM.ilog2()) as usize;
            COARSE_CLASSES + FINE * doublings + (w >> (highest - FINE.ilog2())) - FINE
        };
        Self::of_index(index as u8)
    }

    /// All classes, smallest first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..CLASSES as u8).map(Self::of_index)
    }

    /// The class with this index, which is below [`CLASSES`].
    const fn of_index(index: u8) -> Self {
        Self((index + 1) * CACHE_WORDS as u8)
    }

    /// How many classes are smaller; always below [`CLASSES`].
    #[inline(always)]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize / CACHE_WORDS - 1
    }

    /// This class's element of an array that has one for each.
    #[inline(always)]
    pub(crate) fn pick<T>(self, array: &[T; CLASSES]) -> &T {
        // SAFETY: a `Class` is only made by `by_formula` and `of_size`, whose largest result (for
        // `SMALL_MAX`) is checked below to be the last one, by `all`, and by `class_of_kind`, which
        // compares.
        unsafe { array.get_unchecked(self.index()) }
    }

    #[inline(always)]
    pub(crate) fn shape(self) -> &'static Shape {
        self.pick(&SHAPES)
    }

    /// Bytes of a block.
    #[inline(always)]
    pub(crate) fn size(self) -> usize {
        self.shape().size as usize
    }
}

/// Which of a heap's caches serves, as the words before it in the heap's array, where each has
/// [`CACHE_WORDS`]: that is the index of a class plus one times those, which is how a page's kind is
/// written too. So what is read of a size or an address is an offset that an instruction's address
/// scales to bytes by itself.
///
/// The first and the last cache are no class's. They are empty and full at once, so that a size or an
/// address that has no class leaves the fast path by the branch that an empty or full cache takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheIndex(usize);

/// Caches of a heap.
pub(crate) const CACHES: usize = CLASSES + 2;

/// Words of a heap's array that each cache has.
pub(crate) const CACHE_WORDS: usize = 2;

/// Every kind of a page, and that of nothing at all, is below this number; those of large blocks are
/// not.
pub(crate) const CACHED_KINDS: usize = (CLASSES + 1) * CACHE_WORDS;

/// Sizes below this one have a cache, which is no class's from [`SMALL_MAX`] on. Its lowest byte is
/// [`CACHED_KINDS`], so that one word in memory is the limit of both.
pub(crate) const CACHED_SIZES: usize = SMALL_MAX + CACHED_KINDS;

const _: () = assert!(CACHED_SIZES & 0xff == CACHED_KINDS);

impl CacheIndex {
    /// The cache of a class.
    #[inline(always)]
    pub(crate) const fn of(class: Class) -> Self {
        Self(class.0 as usize)
    }

    /// The cache that serves a size.
    ///
    /// # Safety
    ///
    /// - `size` is below [`CACHED_SIZES`].
    #[inline(always)]
    pub(crate) unsafe fn of_size(size: usize) -> Self {
        let grains = (size + (GRAIN - 1)) >> GRAIN.ilog2();
        // SAFETY: the table has an element for each number of grains in sizes below that.
        Self(usize::from(unsafe { *CACHE_BY_SIZE.get_unchecked(grains) }))
    }

    /// The cache of a page's blocks, by its kind.
    ///
    /// # Safety
    ///
    /// - `kind` is below [`CACHED_KINDS`], and a page's or nothing's.
    #[inline(always)]
    pub(crate) unsafe fn of_kind(kind: usize) -> Self {
        Self(kind)
    }

    /// The class, if it has one.
    #[inline(always)]
    pub(crate) const fn class(self) -> Option<Class> {
        class_of_kind(self.0 as u8)
    }

    /// This cache's element of an array that has one for each.
    #[inline(always)]
    pub(crate) fn pick<T>(self, array: &[T; CACHES]) -> &T {
        const { assert!(size_of::<T>() == CACHE_WORDS * size_of::<u64>()) };
        // SAFETY: it is a multiple of what each has, and below what all have: a class's index is
        // below `CLASSES`, the table's largest element is the last cache's, and `of_kind` is given
        // what a page's kind can be.
        unsafe { &*array.as_ptr().wrapping_byte_add(self.0 * size_of::<u64>()) }
    }
}

/// A page's kind as a byte, by its class: where the class's cache lies. See [`CacheIndex`].
pub(crate) const fn kind_of_class(class: Class) -> u8 {
    class.0
}

/// The class of a page by the page's kind; `None` for the kinds that are no page's.
#[inline(always)]
pub(crate) const fn class_of_kind(kind: u8) -> Option<Class> {
    const { assert!(CACHE_WORDS == 2 && CLASSES < 127) };
    // One comparison: what is odd becomes large, as what is less than the first one does.
    let index = kind.wrapping_sub(2).rotate_right(1);
    if (index as usize) < CLASSES { Some(Class(kind)) } else { None }
}

/// Blocks of a cache that is in the short part of the slots, where all classes' lie close together: most
/// caches stay as small, and a thread touches fewer OS pages for them.
pub(crate) const SHORT_CACHE: u32 = 64;

/// Slots of a cache in the short part, with what marks the two ends.
const SHORT_SLOTS: u32 = SHORT_CACHE + 2;

/// Slots that the caches of all classes need together, two more than the blocks for each: what marks
/// the two ends.
pub(crate) const SLOTS: usize = {
    let last = shapes()[CLASSES - 1];
    (last.first_slot + last.slots()) as usize
};

/// The slots of caches that are longer than [`SHORT_CACHE`].
pub(crate) const LONG_CACHES: Range<usize> = CLASSES * SHORT_SLOTS as usize..SLOTS;

static SHAPES: [Shape; CLASSES] = shapes();

/// What all class sizes are multiples of.
const GRAIN: usize = 16;

/// The cache of each number of grains, which is its class too; nothing at all is served like one. What is
/// more than the last class has, up to [`CACHED_SIZES`], has the last cache, which is no class's.
static CACHE_BY_SIZE: [u8; (CACHED_SIZES - 1).div_ceil(GRAIN) + 1] = {
    let mut caches = [CACHED_KINDS as u8; (CACHED_SIZES - 1).div_ceil(GRAIN) + 1];
    caches[0] = kind_of_class(Class::by_formula(1));
    let mut grains = 1;
    while grains <= SMALL_MAX / GRAIN {
        caches[grains] = kind_of_class(Class::by_formula(grains * GRAIN));
        grains += 1;
    }
    caches
};

const fn class_size(index: usize) -> usize {
    if index < 8 {
        return (index + 1) * 16;
    }
    if index < COARSE_CLASSES {
        return (index % 8 + 9) << (index / 8 + 3);
    }
    let fine = index - COARSE_CLASSES;
    ((fine % FINE + FINE + 1) * (FINE_FROM / FINE)) << (fine / FINE)
}

/// Slices of a page of blocks of a size: as few as have enough blocks and lose little behind the last.
const fn page_slices(size: usize) -> usize {
    let mut best = 0;
    let mut slices = 1;
    while slices <= PAGE_SLICES_MAX {
        if slices * SLICE / size >= BLOCKS_MIN {
            if best == 0 || lost_bytes(size, slices) * best < lost_bytes(size, best) * slices {
                best = slices;
            }
            if lost_bytes(size, best) * LOST_PART <= best * SLICE {
                break;
            }
        }
        slices += 1;
    }
    best
}

/// Bytes behind the last block of a page that share an OS page with it: what follows is never touched.
const fn lost_bytes(size: usize, slices: usize) -> usize {
    let used = slices * SLICE / size * size;
    used.next_multiple_of(USUAL_OS_PAGE) - used
}

const fn shapes() -> [Shape; CLASSES] {
    let none = Shape {
        size: 0,
        reciprocal: 0,
        blocks: 0,
        slices: 0,
        cache_blocks: 0,
        cache_blocks_max: 0,
        first_slot: 0,
    };
    let mut shapes = [none; CLASSES];
    let mut first_slot = CLASSES as u32 * SHORT_SLOTS;
    let mut index = 0;
    while index < CLASSES {
        let size = class_size(index);
        let slices = page_slices(size);
        shapes[index] = Shape {
            size: size as u32,
            reciprocal: u64::MAX / size as u64 + 1,
            blocks: (slices * SLICE / size) as u32,
            slices: slices as u32,
            cache_blocks: cache_blocks(CACHE_BYTES, size),
            cache_blocks_max: cache_blocks(CACHE_BYTES_MAX, size),
            first_slot,
        };
        assert!(shapes[index].blocks as usize <= SLICE / GRAIN, "a page has bits for so many");
        first_slot += shapes[index].slots();
        index += 1;
    }
    shapes
}

// The formula and the table agree at every class's edges.
const _: () = {
    let mut index = 0;
    while index < CLASSES {
        let size = class_size(index);
        let Ok(layout) = Layout::from_size_align(size, 1) else { panic!("a class overflows") };
        let Some(class) = Class::of(layout) else { panic!("a class size has no class") };
        assert!(class.index() == index);
        let Ok(layout) = Layout::from_size_align(size + 1, 1) else { panic!("a class overflows") };
        match Class::of(layout) {
            Some(next) => assert!(next.index() == index + 1),
            None => assert!(index == CLASSES - 1),
        }
        index += 1;
    }
    assert!(class_size(CLASSES - 1) == SMALL_MAX);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_gets_the_smallest_class_that_fits() {
        for size in 1..=SMALL_MAX {
            let class = Class::of(Layout::from_size_align(size, 1).unwrap()).unwrap();
            assert!(class.size() >= size);
            let index = class.index();
            assert!(index == 0 || class_size(index - 1) < size, "{size} fits a smaller class");
        }
    }

    #[test]
    fn the_table_says_what_the_formula_says() {
        for size in 1..=SMALL_MAX {
            assert_eq!(Class::of_size(size), Some(Class::by_formula(size)), "{size}");
        }
        assert_eq!(Class::of_size(0), Class::all().next());
        assert_eq!(Class::of_size(SMALL_MAX + 1), None);
        assert_eq!(Class::of_size(usize::MAX), None);
    }

    #[test]
    fn sizes_without_a_class_have_a_cache_that_is_no_classs() {
        for size in 0..CACHED_SIZES {
            // SAFETY: below the limit.
            let cache = unsafe { CacheIndex::of_size(size) };
            assert_eq!(cache.class(), Class::of_size(size), "{size}");
            assert!(cache.0 <= CACHED_KINDS && cache.0.is_multiple_of(CACHE_WORDS));
        }
        // SAFETY: below the limit.
        assert_eq!(unsafe { CacheIndex::of_kind(0) }.class(), None);
    }

    #[test]
    fn only_kinds_of_pages_have_a_class() {
        for kind in 0..=u8::MAX {
            let class = Class::all().find(|class| kind_of_class(*class) == kind);
            assert_eq!(class_of_kind(kind), class, "{kind}");
        }
    }

    #[test]
    fn steps_are_at_most_an_eighth_and_of_large_classes_a_sixteenth() {
        for index in 8..CLASSES {
            let (below, size) = (class_size(index - 1), class_size(index));
            let part = if below < FINE_FROM { 8 } else { 16 };
            assert!((size - below) * part <= below, "{below} to {size}");
        }
    }

    #[test]
    fn little_of_a_page_is_lost_behind_its_last_block() {
        for shape in &SHAPES {
            let (size, slices) = (shape.size as usize, shape.slices as usize);
            assert!((slices * SLICE) / size >= BLOCKS_MIN && slices <= PAGE_SLICES_MAX);
            assert!(lost_bytes(size, slices) * 64 <= slices * SLICE, "{size}");
        }
    }

    #[test]
    fn every_class_keeps_every_alignment_it_is_asked_for() {
        for shift in 0..=15 {
            let align = 1usize << shift;
            for size in 1..=SMALL_MAX {
                let layout = Layout::from_size_align(size, align).unwrap();
                if let Some(class) = Class::of(layout) {
                    assert!(class.size() >= size);
                    assert_eq!(class.size() % align, 0, "size {size}, alignment {align}");
                }
            }
        }
    }

    #[test]
    fn the_reciprocal_divides_every_offset_and_tells_whether_there_is_a_rest() {
        for class in Class::all() {
            let shape = class.shape();
            for offset in 0..shape.blocks * shape.size {
                let product = u128::from(offset) * u128::from(shape.reciprocal);
                assert_eq!((product >> 64) as u32, offset / shape.size);
                let is_exact = (product as u64) < shape.reciprocal;
                assert_eq!(
                    is_exact,
                    offset.is_multiple_of(shape.size),
                    "{offset} by {}",
                    shape.size
                );
            }
        }
    }

    #[test]
    fn large_layouts_have_no_class() {
        assert_eq!(Class::of(Layout::from_size_align(SMALL_MAX + 1, 1).unwrap()), None);
        assert_eq!(Class::of(Layout::from_size_align(1, SMALL_MAX * 2).unwrap()), None);
    }
}
