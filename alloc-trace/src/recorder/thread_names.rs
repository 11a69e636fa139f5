//! Which threads are recorded, by their names.

/// A pattern at most: the kernel's names have 15 bytes.
const MAX_BYTES: usize = 32;

/// A pattern of names, in which `*` stands for any text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pattern {
    bytes: [u8; MAX_BYTES],
    length: usize,
}

impl Pattern {
    /// The pattern, unless it is too long.
    pub(crate) fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_BYTES];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self { bytes, length: text.len() })
    }

    /// Whether a name is of the pattern.
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        let pattern = self.bytes.get(..self.length).unwrap_or_default();
        let (mut at, mut of) = (0, 0);
        // Where to go on when what follows the last `*` does not match.
        let mut back = None;
        while at < name.len() {
            match pattern.get(of) {
                Some(b'*') => {
                    of += 1;
                    back = Some((of, at));
                }
                Some(byte) if name.get(at) == Some(byte) => (at, of) = (at + 1, of + 1),
                _ => {
                    let Some((star, begin)) = back else { return false };
                    back = Some((star, begin + 1));
                    (of, at) = (star, begin + 1);
                }
            }
        }
        pattern.get(of..).unwrap_or_default().iter().all(|&byte| byte == b'*')
    }
}

/// The threads that are recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThreadNames {
    /// Only these, if a pattern is given.
    pub(crate) only: Option<Pattern>,
    /// Not these.
    pub(crate) not: Option<Pattern>,
}

impl ThreadNames {
    /// All threads.
    pub(crate) const ALL: Self = Self { only: None, not: None };

    /// Whether no name is left out.
    #[inline]
    pub(crate) const fn takes_all(&self) -> bool {
        self.only.is_none() && self.not.is_none()
    }

    /// Whether a thread of this name is recorded.
    pub(crate) fn takes(&self, name: &[u8]) -> bool {
        self.only.is_none_or(|only| only.matches(name))
            && !self.not.is_some_and(|not| not.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        let matches = |pattern: &str, name: &str| {
            Pattern::new(pattern.as_bytes()).expect("short").matches(name.as_bytes())
        };
        for (pattern, name) in [
            ("worker", "worker"),
            ("worker-*", "worker-12"),
            ("*", ""),
            ("*er-*", "worker-er-1"),
            ("a*b*c", "aXbXbc"),
            ("", ""),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("worker", "worker-1"), ("worker-*", "worker"), ("a*b", "abc"), ("", "a"), ("?", "a")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        assert!(Pattern::new(&[b'a'; 33]).is_none());
    }

    #[test]
    fn what_is_left_out_is_left_out_of_what_is_taken() {
        let pattern = |text: &[u8]| Pattern::new(text);
        let names = ThreadNames { only: pattern(b"w*"), not: pattern(b"*-0") };
        assert!(names.takes(b"w-1") && !names.takes(b"w-0") && !names.takes(b"x-1"));
        assert!(ThreadNames::ALL.takes(b"") && ThreadNames::ALL.takes_all());
    }
}
