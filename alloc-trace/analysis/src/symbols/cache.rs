//! Names that were found once, kept in a file beside the recording: they stay when the program is built
//! anew, and go with the recording to another machine.
//!
//! The file is text. Its first line names the recording; then each return address has a line of its own
//! and one for each frame, innermost first: function, file, line and module, a tab between, with what would
//! set them off written as `\t`, `\n`, `\r` and `\\`. It is replaced as a whole. What it cannot be, for a file system that nobody may write to, is no error: names are found
//! anew the next time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use alloc_trace_format::Recording;

/// The names of one recording's frames.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
    /// The first line.
    title: String,
    frames: BTreeMap<u64, Vec<CachedFrame>>,
    grown: bool,
}

/// A frame whose name is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CachedFrame {
    pub(super) function: String,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
    pub(super) module: String,
}

impl Cache {
    /// The names that are kept of a recording, if any.
    pub(super) fn of(recording: &Recording) -> Self {
        let mut name = recording.path().file_name().unwrap_or_default().to_owned();
        name.push(".symbols");
        let header = recording.header();
        let title = format!(
            "alloc-trace symbols 1 {} {} {}",
            header.pid, header.start.ticks, header.start_realtime_ns
        );
        Self::read(recording.path().with_file_name(name), title)
    }

    fn read(path: PathBuf, title: String) -> Self {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let frames = parse(&text, &title).unwrap_or_default();
        Self { path, title, frames, grown: false }
    }

    /// The frames at a return address in a module.
    pub(super) fn get(&self, address: u64, module: &str) -> Option<&[CachedFrame]> {
        let frames = self.frames.get(&address)?;
        frames.iter().all(|frame| frame.module == module).then_some(frames)
    }

    /// Keeps the frames at a return address.
    pub(super) fn add(&mut self, address: u64, frames: Vec<CachedFrame>) {
        self.grown |= self.frames.get(&address) != Some(&frames);
        self.frames.insert(address, frames);
    }

    /// Writes the file, if anything has changed.
    pub(super) fn save(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.grown) {
            return Ok(());
        }
        let mut text = format!("{}\n", self.title);
        for (address, frames) in &self.frames {
            // A text cannot fail to grow.
            let _ = writeln!(text, "{address:x}");
            for frame in frames {
                let line = frame.line.map(|line| line.to_string()).unwrap_or_default();
                let file = frame.file.as_deref().unwrap_or_default();
                let fields = [&*frame.function, file, &*line, &*frame.module].map(escaped);
                let _ = writeln!(text, "\t{}", fields.join("\t"));
            }
        }
        replace(&self.path, &text)
    }
}

/// What sets fields and lines off, and how it is written in a field.
const ESCAPES: [(char, char); 4] = [('\\', '\\'), ('\t', 't'), ('\n', 'n'), ('\r', 'r')];

/// Without what sets fields and lines off.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match ESCAPES.iter().find(|(plain, _)| *plain == c) {
            Some((_, written)) => out.extend(['\\', *written]),
            None => out.push(c),
        }
    }
    out
}

/// A field's text. A backslash before anything else stands for itself.
fn unescaped(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        let next = chars.clone().next().filter(|_| c == '\\');
        match ESCAPES.iter().find(|(_, written)| Some(*written) == next) {
            Some((plain, _)) => {
                chars.next();
                out.push(*plain);
            }
            None => out.push(c),
        }
    }
    out
}

/// Nobody sees the file half written.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    // It tells as much of the program as the recording, which only its owner reads.
    let file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    let written = written.and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The frames in a file of this title; `None` where it is another's, or broken.
fn parse(text: &str, title: &str) -> Option<BTreeMap<u64, Vec<CachedFrame>>> {
    let mut lines = text.lines();
    if lines.next()? != title {
        return None;
    }
    let mut all: BTreeMap<u64, Vec<CachedFrame>> = BTreeMap::new();
    let mut address = None;
    for line in lines {
        match line.strip_prefix('\t') {
            None => address = Some(u64::from_str_radix(line, 16).ok()?),
            Some(fields) => {
                let fields: Vec<&str> = fields.split('\t').collect();
                let [function, file, line, module] = *fields else { return None };
                let frame = CachedFrame {
                    function: unescaped(function),
                    file: (!file.is_empty()).then(|| unescaped(file)),
                    line: if line.is_empty() { None } else { Some(line.parse().ok()?) },
                    module: unescaped(module),
                };
                all.entry(address?).or_default().push(frame);
            }
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, line: Option<u32>) -> CachedFrame {
        let file = line.map(|_| "src/main.rs".to_owned());
        CachedFrame { function: function.into(), file, line, module: "/app".into() }
    }

    #[test]
    fn what_was_kept_is_read_again_by_the_same_recording_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("app.trace.symbols");
        let mut cache = Cache::read(path.clone(), "title".into());
        let frames = vec![frame("app::inlined", Some(3)), frame("app::main", None)];
        cache.add(0x10, frames.clone());
        let odd = vec![frame("with\ttab\r\nand \\line \\\\n", Some(1))];
        cache.add(0x20, odd.clone());
        cache.save().expect("written");
        let again = Cache::read(path.clone(), "title".into());
        assert_eq!(again.get(0x10, "/app"), Some(&*frames));
        assert_eq!(again.get(0x10, "/another"), None, "another module has its place now");
        assert_eq!(again.get(0x20, "/app"), Some(&*odd));
        assert_eq!(again.get(0x30, "/app"), None);
        assert_eq!(Cache::read(path.clone(), "another".into()).get(0x10, "/app"), None);
        fs::write(&path, "title\n10\n\tbroken\n").expect("written");
        assert_eq!(Cache::read(path, "title".into()).get(0x10, "/app"), None);
        let files = fs::read_dir(directory.path()).expect("readable").count();
        assert_eq!(files, 1, "no temporary file is left");
    }
}
