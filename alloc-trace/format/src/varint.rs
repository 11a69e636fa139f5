//! Variable-length integers: LEB128, seven bits a byte, least significant first; signed values are
//! zigzag-encoded before.

/// The longest encoding of a `u64`.
pub(crate) const MAX_BYTES: usize = 10;

/// Maps a signed difference to an unsigned number that is small when the difference is near zero.
#[inline]
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
#[inline]
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// The zigzag-encoded difference `to - from`, wrapping, so that any two numbers have one.
#[inline]
pub(crate) const fn difference(from: u64, to: u64) -> u64 {
    zigzag(to.wrapping_sub(from).cast_signed())
}

/// The number that [`difference`] from `from` leads to.
#[inline]
pub(crate) const fn apply_difference(from: u64, encoded: u64) -> u64 {
    from.wrapping_add(unzigzag(encoded).cast_unsigned())
}

/// Reads one integer from the front of `bytes`: the value and how many bytes it took.
///
/// `None` where the bytes end too early or the value does not fit 64 bits.
#[inline]
pub(crate) fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(MAX_BYTES).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if index == MAX_BYTES - 1 && byte > 1 {
            return None;
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zigzag_maps_small_differences_to_small_numbers() {
        assert_eq!([0, -1, 1, -2, 2].map(zigzag), [0, 1, 2, 3, 4]);
        for value in [0, 1, -1, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn differences_wrap_at_the_ends() {
        for (from, to) in [(0, u64::MAX), (u64::MAX, 0), (5, 3), (1 << 63, 7)] {
            assert_eq!(apply_difference(from, difference(from, to)), to);
        }
    }

    #[test]
    fn overlong_and_cut_integers_are_refused() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0x80]), None);
        assert_eq!(read(&[0xff; 10]), None);
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), {
            Some((u64::MAX, 10))
        });
    }
}
