//! One file that has names: its symbol table, and its debug information once somebody asks for that.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use addr2line::Loader;

use super::debug_file;
use super::function_table::FunctionTable;
use super::name::demangle;

/// A frame as the debug information states it.
#[derive(Debug)]
pub(super) struct RawFrame {
    pub(super) function: Option<String>,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
}

impl RawFrame {
    /// Of a function that is known by its symbol alone.
    pub(super) const fn of_symbol(name: String) -> Self {
        Self { function: Some(name), file: None, line: None }
    }
}

pub(super) struct SymbolFile {
    path: PathBuf,
    /// Read where there is no debug information, or nobody asked for it.
    table: OnceCell<FunctionTable>,
    debug_info: OnceCell<DebugInfo>,
}

struct DebugInfo {
    /// `None` where it cannot be read.
    loader: Option<Loader>,
    /// Why it is not there, or not whole.
    trouble: Option<String>,
}

impl SymbolFile {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, table: OnceCell::new(), debug_info: OnceCell::new() }
    }

    /// The symbol of the function that has an address.
    pub(super) fn symbol(&self, address: u64) -> Option<&str> {
        match self.debug_info.get().and_then(|debug_info| debug_info.loader.as_ref()) {
            Some(loader) => loader.find_symbol(address),
            None => self.table.get_or_init(|| FunctionTable::read(&self.path)).name(address),
        }
    }

    /// The frames at an address by the debug information, innermost first; empty where it has none.
    pub(super) fn frames(&self, address: u64) -> Vec<RawFrame> {
        let mut frames = Vec::new();
        let debug_info = self.debug_info.get_or_init(|| DebugInfo::open(&self.path));
        let Some(loader) = &debug_info.loader else { return frames };
        // Debug information that contradicts itself gives what it gave up to there.
        let Ok(mut found) = loader.find_frames(address) else { return frames };
        while let Ok(Some(frame)) = found.next() {
            let function = frame.function.as_ref().and_then(|function| function.raw_name().ok());
            let location = frame.location.as_ref();
            frames.push(RawFrame {
                function: function.map(|name| demangle(&name)),
                file: location.and_then(|location| location.file).map(str::to_owned),
                line: location.and_then(|location| location.line).filter(|&line| line != 0),
            });
        }
        frames
    }

    /// The file, and what its debug information lacks, where it was asked for.
    pub(super) fn trouble(&self) -> Option<(&Path, &str)> {
        Some((&self.path, self.debug_info.get()?.trouble.as_deref()?))
    }
}

impl DebugInfo {
    fn open(path: &Path) -> Self {
        let whole = match debug_file::shared(path) {
            None => Loader::new(path).map_err(|error| error.to_string()),
            Some((named, None)) => Err(format!(
                "it goes on in {}, which is not here, or of another build",
                OsStr::from_bytes(&named).display()
            )),
            Some((_, Some(shared))) => Loader::new_with_sup(path, Some(&shared))
                .map_err(|error| format!("{}: {error}", shared.display())),
        };
        match whole {
            Ok(loader) => Self { loader: Some(loader), trouble: None },
            // Without what it shares with others it still has lines.
            Err(reason) => Self { loader: Loader::new(path).ok(), trouble: Some(reason) },
        }
    }
}
