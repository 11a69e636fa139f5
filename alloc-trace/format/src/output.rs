//! Where a record of any length is written to: a slice that may be too short.

/// Texts (names, paths, markers, a span's fields) are cut to this many bytes.
pub const MAX_TEXT_BYTES: usize = 1024;

/// A place to write to, which remembers that it was too short.
pub(crate) struct Output<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl<'a> Output<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, length: 0 }
    }

    #[inline]
    pub(crate) fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
        }
        self.length += 1;
    }

    #[inline]
    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.length..self.length + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.length += bytes.len();
    }

    /// A length and as many bytes; cut to [`MAX_TEXT_BYTES`].
    pub(crate) fn text(&mut self, text: &[u8]) {
        let text = text.get(..MAX_TEXT_BYTES).unwrap_or(text);
        self.varint(text.len() as u64);
        self.bytes(text);
    }

    /// How many bytes were written; `None` where there was no room for some.
    #[inline]
    pub(crate) fn finish(self) -> Option<usize> {
        (self.length <= self.bytes.len()).then_some(self.length)
    }
}
