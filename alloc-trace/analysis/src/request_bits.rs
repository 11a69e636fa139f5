//! A bit for each request of a recording, in memory that does not grow with them.
//!
//! Most blocks live shortly, so bits are set nearly in the order of requests. The last ones are in memory, and those
//! before them in a temporary file without a name, which is gone with the process. A bit in there that is set
//! later waits until there are many of those, which are then written in the order of their places. A recording of
//! fewer than four million requests needs no file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// So many words are in memory: half a megabyte.
const MOST_WORDS: usize = 64 << 10;

/// So many bits wait to be set in the file: half a megabyte of their numbers.
const MOST_LATE: usize = 64 << 10;

/// Words that are read and written together.
const PAGE: usize = 512;

/// So many pages leave memory together.
const PAGES_SPILLED: usize = 16;

const _: () = assert!(MOST_WORDS.is_multiple_of(PAGE) && MOST_WORDS > PAGE * PAGES_SPILLED);

/// Bits that are being set; at first none is.
#[derive(Debug)]
pub(crate) struct RequestBits {
    most_words: usize,
    most_late: usize,
    file: Option<File>,
    /// How many words are in the file, all of whole pages.
    spilled: u64,
    /// The words behind those, as far as a bit was set.
    words: Vec<u64>,
    /// Requests whose words are in the file and whose bits are still to be set there.
    late: Vec<u64>,
}

impl RequestBits {
    pub(crate) const fn new() -> Self {
        Self {
            most_words: MOST_WORDS,
            most_late: MOST_LATE,
            file: None,
            spilled: 0,
            words: Vec::new(),
            late: Vec::new(),
        }
    }

    /// Sets the bit of a request, which may be any one.
    pub(crate) fn set(&mut self, request: u64) -> io::Result<()> {
        let word = request / 64;
        if word < self.spilled {
            self.late.push(request);
            return if self.late.len() < self.most_late { Ok(()) } else { self.write_late() };
        }
        while word - self.spilled >= self.most_words as u64 {
            self.spill()?;
        }
        let index = (word - self.spilled) as usize;
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        self.words[index] |= bit(request);
        Ok(())
    }

    /// Begins to read them in the order of the requests.
    pub(crate) fn read(mut self) -> io::Result<BitsInOrder> {
        self.write_late()?;
        self.late = Vec::new();
        Ok(BitsInOrder { bits: self, request: 0, page: Vec::new() })
    }

    /// Moves the first words in memory to the file.
    fn spill(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(tempfile::tempfile()?);
        }
        let Some(file) = &self.file else { return Ok(()) };
        let words = (PAGE * PAGES_SPILLED).min(self.most_words);
        self.words.resize(self.words.len().max(words), 0);
        let (begin, end) = (self.spilled * 8, (self.spilled + words as u64) * 8);
        let spilled = self.words.drain(..words);
        if spilled.as_slice().iter().all(|&word| word == 0) {
            // A hole takes no room.
            file.set_len(end)?;
        } else {
            let bytes: Vec<u8> = spilled.flat_map(u64::to_le_bytes).collect();
            file.write_all_at(&bytes, begin)?;
        }
        self.spilled += words as u64;
        Ok(())
    }

    /// Sets the bits that are still to be set in the file.
    fn write_late(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        self.late.sort_unstable();
        let mut page = vec![0; PAGE];
        for requests in self.late.chunk_by(|one, other| page_of(*one) == page_of(*other)) {
            let Some(offset) = requests.first().map(|&request| page_of(request) * PAGE_BYTES)
            else {
                continue;
            };
            read_page(file, offset, &mut page)?;
            for &request in requests {
                page[(request / 64) as usize % PAGE] |= bit(request);
            }
            let bytes: Vec<u8> = page.iter().copied().flat_map(u64::to_le_bytes).collect();
            file.write_all_at(&bytes, offset)?;
        }
        self.late.clear();
        Ok(())
    }
}

/// Bits that are read, from that of the first request on.
#[derive(Debug)]
pub(crate) struct BitsInOrder {
    bits: RequestBits,
    /// The next one.
    request: u64,
    /// The page that it is in, where that is in the file.
    page: Vec<u64>,
}

impl BitsInOrder {
    /// Goes back to the first request.
    pub(crate) const fn rewind(&mut self) {
        self.request = 0;
    }

    /// The next request's bit; of one behind the last that was set it is not set.
    pub(crate) fn next_bit(&mut self) -> io::Result<bool> {
        let request = self.request;
        self.request += 1;
        let RequestBits { file, spilled, words, .. } = &self.bits;
        let word = request / 64;
        let word = match (word.checked_sub(*spilled), file) {
            (None, Some(file)) => {
                if request.is_multiple_of(64 * PAGE as u64) {
                    self.page.resize(PAGE, 0);
                    read_page(file, page_of(request) * PAGE_BYTES, &mut self.page)?;
                }
                self.page.get(word as usize % PAGE)
            }
            (index, _) => index.and_then(|index| words.get(usize::try_from(index).ok()?)),
        };
        Ok(word.is_some_and(|word| word & bit(request) != 0))
    }
}

const PAGE_BYTES: u64 = PAGE as u64 * 8;

/// The number of the page that a request's bit is in.
const fn page_of(request: u64) -> u64 {
    request / 64 / PAGE as u64
}

/// A request's bit in its word.
const fn bit(request: u64) -> u64 {
    1 << (request % 64)
}

fn read_page(file: &File, offset: u64, page: &mut [u64]) -> io::Result<()> {
    let mut bytes = [0; PAGE_BYTES as usize];
    file.read_exact_at(&mut bytes, offset)?;
    let (words, _) = bytes.as_chunks();
    page.iter_mut().zip(words).for_each(|(word, bytes)| *word = u64::from_le_bytes(*bytes));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Bits that leave memory early.
    fn few_in_memory() -> RequestBits {
        RequestBits { most_words: 2 * PAGE, most_late: 100, ..RequestBits::new() }
    }

    /// Numbers below 2^31 in no order.
    fn numbers() -> impl Iterator<Item = u64> {
        std::iter::successors(Some(1_u64), |last| Some((last * 48_271) % 0x7fff_ffff))
    }

    #[test]
    fn bits_are_read_as_they_were_set_wherever_they_stood_meanwhile() {
        let requests = 500_000;
        let mut bits = few_in_memory();
        let mut set = BTreeSet::new();
        // Nearly in order, and some of them late or very late; long parts have none.
        for (request, number) in (0..requests).zip(numbers()) {
            let request = match number % 16 {
                0 => number % (request + 1),
                1 => request.saturating_sub(number % 80_000),
                _ if request / 100_000 % 2 == 1 => continue,
                _ => request,
            };
            set.insert(request);
            bits.set(request).expect("written");
            assert!(bits.words.capacity() <= 2 * PAGE * 2 && bits.late.capacity() <= 128);
        }
        assert!(bits.file.is_some());
        let mut bits = bits.read().expect("written");
        for _ in 0..2 {
            for request in 0..requests + 100_000 {
                let is_set = bits.next_bit().expect("readable");
                assert_eq!(is_set, set.contains(&request), "{request}");
            }
            bits.rewind();
        }
    }

    #[test]
    fn few_requests_need_no_file() {
        let mut bits = RequestBits::new();
        let last = 64 * MOST_WORDS as u64 - 1;
        for request in [last, 0] {
            bits.set(request).expect("in memory");
        }
        assert!(bits.file.is_none());
        bits.set(last + 1).expect("written");
        assert!(bits.file.is_some());
        let mut bits = bits.read().expect("written");
        let set = (0..last + 9).filter(|_| bits.next_bit().expect("readable"));
        assert_eq!(set.collect::<Vec<_>>(), [0, last, last + 1]);
    }
}
