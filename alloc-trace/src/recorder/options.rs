//! What a recording is told: where to write and what to take. The same words in the environment and
//! in code.
//!
//! `ALLOC_TRACE=PATH[,key[=value]…]`. In the path a comma is written `\,` and a backslash `\\`;
//! `{pid}` stands for the process's id and `{name}` for its program's name, as in the path that the builder
//! is given.

use std::ffi::CStr;

use super::backtrace::MAX_DEPTH;
use super::compressor::{DEFAULT_LEVEL, LEVELS};
use super::extents::{DEFAULT_WINDOW_BYTES, WINDOW_BYTES};
use super::thread_names::{Pattern, ThreadNames};

/// The name of the environment variable.
pub(crate) const VARIABLE: &CStr = c"ALLOC_TRACE";

/// A path at most, with the zero byte at its end.
pub(crate) const MAX_PATH_BYTES: usize = 4096;

/// A path, held in place.
#[derive(Clone, Copy)]
pub(crate) struct Path {
    bytes: [u8; MAX_PATH_BYTES],
    length: usize,
    has_pid: bool,
}

impl Path {
    pub(crate) const EMPTY: Self = Self { bytes: [0; MAX_PATH_BYTES], length: 0, has_pid: false };

    /// Adds to the end; `false` where there is no room, or where a zero byte would end the path.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        let end = self.length + bytes.len();
        if end >= MAX_PATH_BYTES || bytes.contains(&0) {
            return false;
        }
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(bytes);
            self.length = end;
        }
        true
    }

    /// Puts a directory, which has no slash at its end, in front of a path that is relative to it. Where there is no
    /// room the path stays.
    pub(crate) fn make_absolute(&mut self, directory: &[u8]) {
        let (old, front) = (self.length, directory.len() + 1);
        let length = old + front;
        if self.bytes.first() == Some(&b'/') || length >= MAX_PATH_BYTES {
            return;
        }
        self.bytes.copy_within(..old, front);
        if let Some((slash, place)) = self.bytes.get_mut(..front).and_then(<[u8]>::split_last_mut) {
            place.copy_from_slice(directory);
            *slash = b'/';
        }
        self.length = length;
    }

    /// Adds a text in which `{pid}` stands for the process's id and `{name}` for its program's name;
    /// `false` as for [`Path::push`].
    pub(crate) fn push_template(&mut self, text: &[u8], pid: u32, name: &[u8]) -> bool {
        let mut rest = text;
        while !rest.is_empty() {
            match self.push_next(rest, pid, name) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        true
    }

    /// Adds what begins such a text, a word in braces or a byte; answers what is behind that. `None` where
    /// it does not fit.
    fn push_next<'a>(&mut self, text: &'a [u8], pid: u32, name: &[u8]) -> Option<&'a [u8]> {
        let (fits, rest) = if let Some(rest) = text.strip_prefix(b"{pid}") {
            self.has_pid = true;
            (self.push_number(pid), rest)
        } else if let Some(rest) = text.strip_prefix(b"{name}") {
            (self.push(name), rest)
        } else {
            let (byte, rest) = text.split_first()?;
            (self.push(&[*byte]), rest)
        };
        fits.then_some(rest)
    }

    /// Adds a number in decimal.
    pub(crate) fn push_number(&mut self, number: u32) -> bool {
        let mut digits = [0; 10];
        self.push(decimal(number, &mut digits))
    }

    /// Takes what is behind so many bytes away.
    pub(crate) fn truncate(&mut self, length: usize) {
        if let Some(rest) = self.bytes.get_mut(length..self.length) {
            rest.fill(0);
            self.length = length;
        }
    }

    /// Whether the process's id was put in for `{pid}`.
    pub(crate) const fn has_pid(&self) -> bool {
        self.has_pid
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl std::fmt::Debug for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_c_str().fmt(f)
    }
}

/// A number's decimal digits.
pub(crate) fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut first = digits.len();
    loop {
        first -= 1;
        if let Some(place) = digits.get_mut(first) {
            *place = b'0' + (number % 10) as u8;
        }
        number /= 10;
        if number == 0 {
            return digits.get(first..).unwrap_or_default();
        }
    }
}

/// What a recording is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) path: Path,
    /// Frames of a backtrace at most; 0 for no backtraces.
    pub(crate) depth: usize,
    /// Whether every backtrace is compared with a full unwind.
    pub(crate) check: bool,
    /// The length of the window's first extent.
    pub(crate) window_bytes: usize,
    /// The level at which chunks are compressed; 0 for as they are.
    pub(crate) level: i32,
    /// How long the file may become.
    pub(crate) limit_bytes: u64,
    /// Whether the last part is kept where it would become longer.
    pub(crate) ring: bool,
    /// Which threads are recorded.
    pub(crate) threads: ThreadNames,
    /// Whether it begins paused.
    pub(crate) paused: bool,
    /// A signal that pauses it and goes on with it.
    pub(crate) signal: Option<i32>,
    /// A signal that asks for a snapshot of the heap.
    pub(crate) snapshot_signal: Option<i32>,
}

/// Why nothing is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no path, or it is too long.
    NoPath,
    /// What the file's limit is cannot be read: without one it could fill a disk.
    NoLimit,
}

/// What is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// There is no such option.
    NoOption,
    /// There is, and its values are these.
    Value(&'static str),
}

impl Options {
    pub(crate) const DEFAULT: Self = Self {
        path: Path::EMPTY,
        depth: MAX_DEPTH,
        check: false,
        window_bytes: DEFAULT_WINDOW_BYTES,
        level: DEFAULT_LEVEL,
        limit_bytes: u64::MAX,
        ring: false,
        threads: ThreadNames::ALL,
        paused: false,
        signal: None,
        snapshot_signal: None,
    };

    /// Sets the level at which chunks are compressed; 0 for as they are.
    pub(crate) const fn set_compression(&mut self, level: i32) {
        self.level = level;
    }

    /// Sets the length of the window's first extent, or the nearest one that is possible.
    pub(crate) fn set_window(&mut self, bytes: usize) {
        self.window_bytes = bytes.clamp(*WINDOW_BYTES.start(), *WINDOW_BYTES.end());
    }

    /// Sets how long the file may become.
    pub(crate) const fn set_limit(&mut self, bytes: Option<u64>) {
        if let Some(bytes) = bytes {
            self.limit_bytes = bytes;
        }
    }

    /// Sets whether the last part is kept.
    pub(crate) const fn set_ring(&mut self, ring: bool) {
        self.ring = ring;
    }

    /// Sets whether it begins paused, and by which signal that changes.
    pub(crate) const fn set_pausing(&mut self, paused: bool, signal: Option<i32>) {
        (self.paused, self.signal) = (paused, signal);
    }

    /// Sets by which signal a snapshot of the heap is asked for.
    pub(crate) const fn set_snapshot_signal(&mut self, signal: Option<i32>) {
        self.snapshot_signal = signal;
    }

    /// Sets the only threads that are recorded, or those that are not; `false` where the pattern is
    /// too long.
    pub(crate) fn set_threads(&mut self, pattern: &[u8], only: bool) -> bool {
        let pattern = Pattern::new(pattern);
        let place = if only { &mut self.threads.only } else { &mut self.threads.not };
        if pattern.is_some() {
            *place = pattern;
        }
        pattern.is_some()
    }

    /// Reads the value of the environment variable. What is not understood is given to `told`
    /// and passed over.
    pub(crate) fn parse<'a>(
        text: &'a [u8],
        pid: u32,
        name: &[u8],
        mut told: impl FnMut(&'a [u8], Wrong),
    ) -> Result<Self, Refused> {
        let mut options = Self::DEFAULT;
        let mut rest = text;
        while let Some((&byte, after)) = rest.split_first() {
            let after = match byte {
                b',' => {
                    rest = after;
                    break;
                }
                b'\\' => match after.split_first() {
                    Some((escaped, after)) => options.path.push(&[*escaped]).then_some(after),
                    None => options.path.push(b"\\").then_some(after),
                },
                _ => options.path.push_next(rest, pid, name),
            };
            rest = after.ok_or(Refused::NoPath)?;
        }
        if options.path.length == 0 {
            return Err(Refused::NoPath);
        }
        for option in rest.split(|&byte| byte == b',').filter(|option| !option.is_empty()) {
            if let Err(wrong) = options.set(option) {
                told(option, wrong);
                if option.starts_with(b"limit") && wrong != Wrong::NoOption {
                    return Err(Refused::NoLimit);
                }
            }
        }
        Ok(options)
    }

    fn set(&mut self, option: &[u8]) -> Result<(), Wrong> {
        let mut parts = option.splitn(2, |&byte| byte == b'=');
        let (key, value) = (parts.next().unwrap_or_default(), parts.next());
        let allowed = match key {
            b"check" => "check",
            b"ring" => "ring",
            b"paused" => "paused",
            b"stacks" => "stacks=off or stacks=1 to stacks=128",
            b"window" => "window=1M to window=8M",
            b"compress" => "compress=off or compress=1 to compress=9",
            b"limit" => "limit=BYTES, as 4194304, 256M or 2GiB",
            b"threads" => "threads=PATTERN",
            b"not-threads" => "not-threads=PATTERN",
            b"signal" => "signal=USR1, USR2 or a number",
            b"snapshot-signal" => "snapshot-signal=USR1, USR2 or a number",
            _ => return Err(Wrong::NoOption),
        };
        self.set_value(key, value).ok_or(Wrong::Value(allowed))
    }

    /// Sets an option; `None` where it has no such value.
    fn set_value(&mut self, key: &[u8], value: Option<&[u8]>) -> Option<()> {
        match (key, value) {
            (b"check", None) => self.check = true,
            (b"ring", None) => self.ring = true,
            (b"paused", None) => self.paused = true,
            (b"stacks", Some(b"off")) => self.depth = 0,
            (b"stacks", Some(depth)) => {
                self.depth = number(depth).filter(|depth| (1..=MAX_DEPTH).contains(depth))?;
            }
            (b"window", Some(bytes)) => {
                self.window_bytes = size(bytes).filter(|bytes| WINDOW_BYTES.contains(bytes))?;
            }
            (b"compress", Some(b"off")) => self.level = 0,
            (b"compress", Some(level)) => {
                let level = i32::try_from(number(level)?).ok();
                self.level = level.filter(|level| LEVELS.contains(level))?;
            }
            (b"limit", Some(bytes)) => {
                self.limit_bytes = size(bytes).filter(|&bytes| bytes > 0)? as u64;
            }
            // Without a name a pattern is of no thread, and nothing would be recorded.
            (b"threads" | b"not-threads", Some(b"")) => return None,
            (b"threads", Some(pattern)) => return self.set_threads(pattern, true).then_some(()),
            (b"not-threads", Some(pattern)) => {
                return self.set_threads(pattern, false).then_some(());
            }
            (b"signal", Some(number)) => self.signal = Some(signal(number)?),
            (b"snapshot-signal", Some(number)) => self.snapshot_signal = Some(signal(number)?),
            _ => return None,
        }
        Some(())
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A signal that can be spared: by number, or the two that exist for programs' own purposes.
fn signal(text: &[u8]) -> Option<i32> {
    match text {
        b"USR1" => Some(libc::SIGUSR1),
        b"USR2" => Some(libc::SIGUSR2),
        digits => i32::try_from(number(digits)?).ok().filter(|number| (1..65).contains(number)),
    }
}

/// A number of bytes, which may have one of the units `K`, `M`, `G` and `T`, or `KiB` and so on, in any case:
/// powers of 1,024.
fn size(text: &[u8]) -> Option<usize> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    let mut shift = 0;
    if let Some((first, rest)) = unit.split_first() {
        let place = b"kmgt".iter().position(|known| *known == first.to_ascii_lowercase())?;
        shift = 10 * (place + 1);
        if !rest.is_empty() && !rest.eq_ignore_ascii_case(b"iB") {
            return None;
        }
    }
    number(digits)?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Options, Vec<&str>) {
        let mut unknown = Vec::new();
        let parsed = Options::parse(text.as_bytes(), 42, b"app", |option, _| {
            unknown.push(std::str::from_utf8(option).expect("text"));
        });
        (parsed.expect("parses"), unknown)
    }

    #[test]
    fn a_path_alone_takes_the_defaults() {
        let (options, unknown) = parse("/tmp/a.trace");
        assert_eq!(options.path.as_bytes(), b"/tmp/a.trace");
        assert_eq!((options.depth, options.check), (MAX_DEPTH, false));
        assert!(unknown.is_empty());
    }

    #[test]
    fn commas_and_backslashes_are_escaped_and_the_pid_is_put_in() {
        let (options, _) = parse(r"a\,b\\c.{pid}.trace,stacks=16");
        assert_eq!(options.path.as_bytes(), br"a,b\c.42.trace");
        assert_eq!(options.depth, 16);
    }

    #[test]
    fn a_relative_path_is_made_absolute_where_there_is_room() {
        let made = |path: &[u8], directory: &[u8]| {
            let mut made = Path::EMPTY;
            assert!(made.push(path));
            made.make_absolute(directory);
            made.as_bytes().to_vec()
        };
        assert_eq!(made(b"a/b.trace", b"/home/me"), b"/home/me/a/b.trace");
        assert_eq!(made(b"b.trace", b""), b"/b.trace");
        assert_eq!(made(b"/a/b.trace", b"/home"), b"/a/b.trace");
        // With the zero byte at its end it just fits, and with another byte no longer.
        assert_eq!(made(b"b", &[b'/'; MAX_PATH_BYTES - 3]).len(), MAX_PATH_BYTES - 1);
        assert_eq!(made(b"b", &[b'/'; MAX_PATH_BYTES - 2]), b"b");
    }

    #[test]
    fn a_path_from_code_has_the_same_words_and_no_escapes() {
        let mut path = Path::EMPTY;
        assert!(path.push_template(br"/a\,{pid}-{name}{pid}.{trace}{", 42, b"app"));
        assert_eq!(path.as_bytes(), br"/a\,42-app42.{trace}{");
        assert!(!path.push_template(b"{name}", 42, &[b'a'; MAX_PATH_BYTES]));
    }

    #[test]
    fn unknown_keys_and_values_are_told_and_passed_over() {
        let (options, unknown) = parse("t,colour=red,stacks=off,stacks=999,,stacks=0");
        assert_eq!(options.depth, 0);
        assert_eq!(unknown, ["colour=red", "stacks=999", "stacks=0"]);
        let (_, unknown) =
            parse("t,stacks,check=1,compress=0,compress=10,window=1,window=9M,window=K");
        assert_eq!(unknown.len(), 7);
    }

    #[test]
    fn what_is_recorded_is_told() {
        let (options, unknown) = parse(
            "{name}-{pid},limit=3G,ring,paused,signal=USR1,snapshot-signal=12,threads=w*,not-threads=*-0",
        );
        assert_eq!(options.path.as_bytes(), b"app-42");
        assert!(options.ring && !parse("t").0.ring);
        assert_eq!((options.limit_bytes, options.paused), (3 << 30, true));
        assert_eq!(options.signal, Some(libc::SIGUSR1));
        assert_eq!(options.snapshot_signal, Some(libc::SIGUSR2));
        assert!(options.threads.takes(b"w-1") && !options.threads.takes(b"w-0"));
        assert!(unknown.is_empty());
        let (_, unknown) = parse("t,signal=KILLED,snapshot-signal=65,paused=no,ring=1,signal");
        assert_eq!(unknown.len(), 5);
        let (options, unknown) = parse("t,threads=,not-threads=");
        assert_eq!(unknown, ["threads=", "not-threads="]);
        assert!(options.threads.takes_all());
    }

    #[test]
    fn window_and_compression_are_taken() {
        let (options, unknown) = parse("t");
        assert_eq!((options.window_bytes, options.level), (3 << 20, 1));
        assert!(unknown.is_empty());
        let (options, _) = parse("t,window=2M,compress=off");
        assert_eq!((options.window_bytes, options.level), (2 << 20, 0));
        let (options, _) = parse("t,compress=3,window=1024K");
        assert_eq!((options.window_bytes, options.level), (1 << 20, 3));
    }

    #[test]
    fn sizes_have_binary_units_in_any_spelling() {
        for (text, bytes) in
            [("1", 1), ("100MiB", 100 << 20), ("3k", 3 << 10), ("3Gib", 3 << 30), ("2T", 2 << 40)]
        {
            assert_eq!(parse(&format!("t,limit={text}")).0.limit_bytes, bytes, "{text}");
        }
    }

    #[test]
    fn nothing_is_recorded_where_the_limit_cannot_be_read() {
        for text in ["", "=", "=0", "=-5", "=1.5M", "=5MB", "=99999999999999999999", "=20000000T"] {
            let mut told = Vec::new();
            let text = format!("t,limit{text},ring");
            let parsed = Options::parse(text.as_bytes(), 1, b"app", |_, wrong| told.push(wrong));
            assert!(matches!(parsed, Err(Refused::NoLimit)), "{text}");
            assert!(matches!(told[..], [Wrong::Value(allowed)] if allowed.starts_with("limit=")));
        }
        let mut told = Vec::new();
        let parsed = Options::parse(b"t,limits=5", 1, b"app", |_, wrong| told.push(wrong));
        assert!(parsed.is_ok());
        assert_eq!(told, [Wrong::NoOption]);
    }

    #[test]
    fn a_path_must_be_there_and_fit() {
        let fails = |text: &[u8]| {
            matches!(Options::parse(text, 1, b"app", |_, _| ()), Err(Refused::NoPath))
        };
        assert!(fails(b""));
        assert!(fails(b",stacks=off"));
        assert!(fails(&vec![b'a'; MAX_PATH_BYTES]));
        assert!(!fails(&vec![b'a'; MAX_PATH_BYTES - 1]));
    }
}
