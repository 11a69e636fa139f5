//! The one way in which a damaged heap ends the process.
//!
//! Nothing here allocates, locks, or can panic: the message is put together on the stack and
//! written with one raw system call. The rest of the crate calls [`fatal`] instead of panicking,
//! because a panic allocates and must not unwind out of an allocator.

/// Longest message, address included; a longer text is cut.
const MESSAGE_BYTES: usize = 192;

/// A message under construction on the stack.
struct Message {
    text: [u8; MESSAGE_BYTES],
    length: usize,
}

impl Message {
    fn push(&mut self, bytes: impl Iterator<Item = u8>) {
        let room = self.text.iter_mut().skip(self.length);
        for (place, byte) in room.zip(bytes) {
            *place = byte;
            self.length += 1;
        }
    }
}

impl Message {
    fn new(found: &str, address: usize) -> Self {
        let mut message = Self { text: [0; MESSAGE_BYTES], length: 0 };
        message.push(b"alloc-core: ".iter().copied());
        message.push(found.bytes());
        message.push(b" (address 0x".iter().copied());
        message.push((0..16u32).rev().map(|nibble| {
            match ((address >> (nibble * 4)) & 0xf) as u8 {
                digit @ 0..=9 => b'0' + digit,
                letter => b'a' - 10 + letter,
            }
        }));
        message
    }

    #[cfg(feature = "hardened")]
    fn push_number(&mut self, number: usize) {
        // As many digits as 64 bits may have.
        let mut digits = [b'0'; 20];
        let mut rest = number;
        for digit in digits.iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        let is_leading = |digit: &u8| *digit == b'0';
        self.push(digits.into_iter().skip_while(is_leading));
    }

    fn end(&mut self) -> ! {
        self.push(b")\n".iter().copied());
        // A raw call: `libc::write` is a cancellation point, and nobody is left to look at a failure.
        // SAFETY: the buffer is valid for `length` bytes, which never exceeds the array.
        unsafe {
            libc::syscall(libc::SYS_write, libc::STDERR_FILENO, self.text.as_ptr(), self.length)
        };
        // SAFETY: `abort` has no preconditions and does not return.
        unsafe { libc::abort() }
    }
}

/// Says what was found, at which address, and aborts.
#[cold]
#[inline(never)]
pub(crate) fn fatal(found: &str, address: usize) -> ! {
    Message::new(found, address).end()
}

/// Says what was found, at which address, in which size class, and aborts.
#[cfg(feature = "hardened")]
#[cold]
#[inline(never)]
pub(crate) fn fatal_of_class(found: &str, address: usize, class_bytes: usize) -> ! {
    let mut message = Message::new(found, address);
    message.push(b", size class ".iter().copied());
    message.push_number(class_bytes);
    message.end()
}

/// Says what was found, at which address, of which kind of block (`large` or `huge`) and how many bytes,
/// and aborts.
#[cfg(feature = "hardened")]
#[cold]
#[inline(never)]
pub(crate) fn fatal_of_size(found: &str, address: usize, kind: &str, bytes: usize) -> ! {
    let mut message = Message::new(found, address);
    message.push(b", ".iter().copied());
    message.push(kind.bytes());
    message.push(b" block of ".iter().copied());
    message.push_number(bytes);
    message.push(b" bytes".iter().copied());
    message.end()
}
