//! How slots and their chunks are grouped.
//!
//! The first extents have few slots and large chunks, which compress better; further ones have chunks
//! of 2.75 KiB, so that ten thousand live threads need 28 MB of window and not 640: with its slot a
//! thread has 8 KiB then.

use std::ops::RangeInclusive;

/// How many extents there can be: 65,072 live threads.
pub(super) const MAX_EXTENTS: usize = 256;

/// How many slots share the first extent, which takes most of the window.
const FIRST_SLOTS: u32 = 16;
/// No chunk is longer, its header included.
pub(super) const LARGEST_CHUNK_BYTES: usize = 512 << 10;
/// What the option `window` can ask for.
pub(super) const WINDOW_BYTES: RangeInclusive<usize> =
    1 << 20..=FIRST_SLOTS as usize * LARGEST_CHUNK_BYTES;
/// The length of the first extent, if nobody says otherwise: measured on recorded programs, chunks of
/// 256 KiB compress to a tenth less than those of 64 KiB, and longer ones to little less. With 4 MiB the
/// recorder would not keep within 16 MiB where 64 threads have many call paths.
pub(super) const DEFAULT_WINDOW_BYTES: usize = 3 << 20;
/// No chunk is shorter.
pub(super) const SMALLEST_CHUNK_BYTES: usize = 11 << 8;

/// The form of an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) first_stream: u32,
    pub(super) slots: u32,
    pub(super) chunk_bytes: u32,
}

impl Shape {
    /// The form of an extent in a window whose first one has so many bytes.
    pub(super) const fn of(extent: usize, window_bytes: usize) -> Self {
        match extent {
            0 => {
                let chunk_bytes = (window_bytes / FIRST_SLOTS as usize) as u32 & !0xfff;
                Self { first_stream: 0, slots: FIRST_SLOTS, chunk_bytes }
            }
            1 => Self { first_stream: FIRST_SLOTS, slots: 32, chunk_bytes: 16 << 10 },
            _ => Self {
                first_stream: 48 + (extent as u32 - 2) * 256,
                slots: 256,
                chunk_bytes: SMALLEST_CHUNK_BYTES as u32,
            },
        }
    }

    /// The stream of an extent's first slot.
    pub(super) const fn first_stream(extent: usize) -> u32 {
        Self::of(extent, 0).first_stream
    }

    /// How many slots an extent has.
    pub(super) const fn slots(extent: usize) -> usize {
        Self::of(extent, 0).slots as usize
    }

    /// The length of the extent's part of the window: a multiple of every OS page size.
    pub(super) const fn bytes(self) -> usize {
        self.slots as usize * self.chunk_bytes as usize
    }
}

/// The extent that a stream's slot lies in.
pub(super) const fn extent_of(stream: u32) -> usize {
    match stream {
        0..16 => 0,
        16..48 => 1,
        _ => 2 + (stream as usize - 48) / 256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_is_cut_into_whole_os_pages() {
        for window_bytes in WINDOW_BYTES.step_by(4_321) {
            let shape = Shape::of(0, window_bytes);
            assert_eq!(shape.bytes() % (64 << 10), 0);
            assert!(shape.bytes() <= window_bytes && shape.chunk_bytes >= 64 << 10);
            assert!(shape.chunk_bytes as usize <= LARGEST_CHUNK_BYTES);
        }
    }

    #[test]
    fn extents_follow_one_another() {
        for extent in 0..MAX_EXTENTS - 1 {
            let shape = Shape::of(extent, DEFAULT_WINDOW_BYTES);
            assert_eq!(shape.first_stream + shape.slots, Shape::first_stream(extent + 1));
            assert_eq!(extent_of(shape.first_stream), extent);
            assert_eq!(extent_of(shape.first_stream + shape.slots - 1), extent);
            assert_eq!(shape.bytes() % (64 << 10), 0);
        }
    }
}
