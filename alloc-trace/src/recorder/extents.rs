//! How slots and their chunks are grouped.
//!
//! The first extents have few slots and large chunks; further ones have chunks of 4 KiB, so that ten
//! thousand live threads need 40 MB of window and not 640.

/// How many extents there can be: 65,072 live threads.
pub(super) const MAX_EXTENTS: usize = 256;
/// The form of an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) first_stream: u32,
    pub(super) slots: u32,
    pub(super) chunk_bytes: u32,
}

impl Shape {
    pub(super) const fn of(extent: usize) -> Self {
        match extent {
            0 => Self { first_stream: 0, slots: 16, chunk_bytes: 64 << 10 },
            1 => Self { first_stream: 16, slots: 32, chunk_bytes: 16 << 10 },
            _ => Self {
                first_stream: 48 + (extent as u32 - 2) * 256,
                slots: 256,
                chunk_bytes: 4 << 10,
            },
        }
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
    fn extents_follow_one_another() {
        for extent in 0..MAX_EXTENTS - 1 {
            let shape = Shape::of(extent);
            assert_eq!(shape.first_stream + shape.slots, Shape::of(extent + 1).first_stream);
            assert_eq!(extent_of(shape.first_stream), extent);
            assert_eq!(extent_of(shape.first_stream + shape.slots - 1), extent);
            assert_eq!(shape.bytes() % (64 << 10), 0);
        }
    }
}
