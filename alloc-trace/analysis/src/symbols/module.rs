//! The symbols of one module: its own file, and a file of debug information beside it.
//!
//! Debug information is opened when somebody asks for what it alone tells. What is compressed of it is
//! inflated as a whole then: of the C library that takes longer than all else that a report asks for names.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use object::read::ReadCache;
use object::{Object, ObjectSection};

use super::name::demangle;
use super::symbol_file::{RawFrame, SymbolFile};
use super::{SymbolProblem, debug_file};

/// Where a module's names come from.
pub(super) struct ModuleSymbols {
    module: PathBuf,
    /// What the module's file says of itself; `None` where it is not asked for names.
    found: Option<Found>,
    /// That file, and one of its debug information, where there is one. The first is asked first.
    files: Vec<SymbolFile>,
    debuginfod: bool,
    /// Why the module's file is not asked.
    problem: Option<SymbolProblem>,
    /// Whether files and lines were asked for.
    asked: bool,
}

impl fmt::Debug for ModuleSymbols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModuleSymbols").field("module", &self.module).finish_non_exhaustive()
    }
}

impl ModuleSymbols {
    pub(super) fn open(
        path: &str,
        recorded_build_id: &[u8],
        recorded_at_ns: u64,
        debuginfod: bool,
    ) -> Self {
        let module = PathBuf::from(path);
        // The kernel's own module has no file, and so nothing to be told of.
        let virtual_module = !path.contains('/');
        let is_recorded = |found: &Found| found.is_of(recorded_build_id, recorded_at_ns);
        let mut file = module.clone();
        let mut examined = Found::examine(&file);
        if !examined.as_ref().is_ok_and(is_recorded) {
            for other in files_shown_as(path) {
                let Ok(found) = Found::examine(&other) else { continue };
                if is_recorded(&found) {
                    (file, examined) = (other, Ok(found));
                    break;
                }
            }
        }
        let (found, problem) = match examined {
            _ if virtual_module => (None, None),
            Ok(found) if is_recorded(&found) => (Some(found), None),
            Ok(_) => (None, Some(SymbolProblem::Changed { module: module.clone() })),
            Err(reason) => {
                (None, Some(SymbolProblem::Unreadable { module: module.clone(), reason }))
            }
        };
        let mut files = Vec::new();
        if let Some(found) = &found {
            files.push(file.clone());
            files.extend(debug_file::find(&file, found).filter(|_| !found.has_lines));
        }
        let files = files.into_iter().map(SymbolFile::new).collect();
        Self { module, found, files, debuginfod, problem, asked: false }
    }

    /// What stood in the way of what was asked for.
    pub(super) fn problem(&self) -> Option<SymbolProblem> {
        let found = match &self.found {
            Some(found) if self.asked => found,
            _ => return self.problem.clone(),
        };
        if let Some((file, reason)) = self.files.iter().find_map(SymbolFile::trouble) {
            // As a text, as that of the module: a problem is shown, and written as JSON.
            let file = PathBuf::from(file.to_string_lossy().into_owned());
            let (module, reason) = (self.module.clone(), reason.to_owned());
            return Some(SymbolProblem::BrokenDebugInfo { module, file, reason });
        }
        if self.files.len() > 1 { None } else { found.lack(&self.module) }
    }

    /// The frames at an address of the file, innermost first; empty where nothing is known.
    pub(super) fn frames(&mut self, address: u64) -> Vec<RawFrame> {
        if !std::mem::replace(&mut self.asked, true) {
            self.ask_servers();
        }
        let mut stated = self.files.iter().map(|file| file.frames(address));
        let mut frames = stated.find(|frames| !frames.is_empty()).unwrap_or_default();
        // The outermost function at an address is the one that the symbol table knows.
        match (frames.last_mut(), self.symbol(address)) {
            (Some(outermost), Some(symbol)) if qualifies(&symbol, &outermost.function) => {
                outermost.function = Some(symbol);
            }
            (None, Some(symbol)) => frames.push(RawFrame::of_symbol(symbol)),
            _ => {}
        }
        frames
    }

    /// The function at an address of the file by symbol tables alone.
    pub(super) fn function(&self, address: u64) -> Option<RawFrame> {
        self.symbol(address).map(RawFrame::of_symbol)
    }

    fn symbol(&self, address: u64) -> Option<String> {
        self.files.iter().find_map(|file| file.symbol(address)).map(demangle)
    }

    fn ask_servers(&mut self) {
        if let Some(found) = &self.found
            && self.debuginfod
            && !found.has_lines
            && self.files.len() == 1
        {
            self.files.extend(debug_file::download(found).map(SymbolFile::new));
        }
    }
}

/// The files whose path looks like this as text, where that has U+FFFD for what was not UTF-8 in it.
///
/// A recording's reader has paths as text only: they are mostly shown.
fn files_shown_as(path: &str) -> Vec<PathBuf> {
    /// Nobody has more of them.
    const MOST: usize = 16;
    let unclear = |name: &str| name.contains(char::REPLACEMENT_CHARACTER);
    let Some(path) = path.strip_prefix('/').filter(|path| unclear(path)) else { return Vec::new() };
    let mut found = vec![PathBuf::from("/")];
    for name in path.split('/') {
        let within = |directory: &PathBuf| -> Vec<PathBuf> {
            if !unclear(name) {
                return vec![directory.join(name)];
            }
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name());
            let like = names.filter(|other| other.to_string_lossy() == name);
            like.take(MOST).map(|other| directory.join(other)).collect()
        };
        found = found.iter().flat_map(within).take(MOST).collect();
    }
    found
}

/// Whether a symbol says more than the debug information's name of the same function.
///
/// Line tables alone (`debug = "line-tables-only"`) name functions without their path. Where the
/// linker has folded equal functions into one, the symbol is of another function: it is taken only
/// where it ends in the name that is known.
fn qualifies(symbol: &str, known: &Option<String>) -> bool {
    let Some(known) = known else { return true };
    let plain = known.split('<').next().unwrap_or(known);
    !known.contains("::") && (plain.is_empty() || plain.starts_with('{') || symbol.contains(plain))
}

/// What a module's file says of itself.
pub(super) struct Found {
    pub(super) build_id: Vec<u8>,
    modified_at_ns: Option<u64>,
    has_lines: bool,
    has_symbols: bool,
    /// The name and the checksum of a file that has its debug information.
    pub(super) debug_link: Option<(PathBuf, u32)>,
}

impl Found {
    /// Whether it is the file that was recorded: it has the same build id, or none and is older.
    fn is_of(&self, recorded_build_id: &[u8], recorded_at_ns: u64) -> bool {
        if recorded_build_id.is_empty() {
            return self.modified_at_ns.is_none_or(|modified| modified <= recorded_at_ns);
        }
        self.build_id == recorded_build_id
    }

    /// What a module lacks that has no other file than this.
    fn lack(&self, module: &Path) -> Option<SymbolProblem> {
        if self.has_lines || is_system_library(module) {
            return None;
        }
        let module = module.to_owned();
        if self.has_symbols {
            return Some(SymbolProblem::NoDebugInfo { module });
        }
        let build_id = debug_file::hexadecimal(&self.build_id);
        Some(SymbolProblem::Stripped { module, build_id })
    }

    pub(super) fn examine(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        if !metadata.is_file() {
            return Err("not a regular file".into());
        }
        let modified = metadata.modified().ok();
        let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let cache = ReadCache::new(file);
        let object = object::File::parse(&cache).map_err(|error| error.to_string())?;
        let build_id = object.build_id().ok().flatten().unwrap_or_default().to_vec();
        let has_lines = object.section_by_name(".debug_line").is_some_and(|lines| lines.size() > 0);
        Ok(Self {
            build_id,
            modified_at_ns: modified.and_then(|time| u64::try_from(time.as_nanos()).ok()),
            has_lines,
            has_symbols: object.symbols().next().is_some(),
            debug_link: object.gnu_debuglink().ok().flatten().and_then(|(name, checksum)| {
                Some((PathBuf::from(std::str::from_utf8(name).ok()?), checksum))
            }),
        })
    }
}

/// Nobody builds these again for the sake of line numbers.
fn is_system_library(path: &Path) -> bool {
    ["/lib", "/lib64", "/usr/lib", "/usr/lib64"].iter().any(|root| path.starts_with(root))
}
