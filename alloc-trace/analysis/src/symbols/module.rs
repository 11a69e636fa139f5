//! The symbols of one module: its own file, and a file of debug information beside it.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use addr2line::Loader;
use object::read::ReadCache;
use object::{Object, ObjectSection};

use super::name::demangle;
use super::{SymbolProblem, debug_file};

/// A frame as the debug information states it.
#[derive(Debug)]
pub(super) struct RawFrame {
    pub(super) function: Option<String>,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
}

/// Where a module's names come from.
pub(super) struct ModuleSymbols {
    /// The module's own file.
    own: Option<Loader>,
    /// Its debug information, where that is a file of its own.
    separate: Option<Loader>,
    problem: Option<SymbolProblem>,
}

impl fmt::Debug for ModuleSymbols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModuleSymbols").field("problem", &self.problem).finish_non_exhaustive()
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
        let without = |problem| Self { own: None, separate: None, problem };
        if virtual_module {
            return without(None);
        }
        let unreadable =
            |reason: String| SymbolProblem::Unreadable { module: module.clone(), reason };
        let found = match Found::examine(&module) {
            Ok(found) => found,
            Err(reason) => return without(Some(unreadable(reason))),
        };
        let same = if recorded_build_id.is_empty() {
            found.modified_at_ns.is_none_or(|modified| modified <= recorded_at_ns)
        } else {
            found.build_id == recorded_build_id
        };
        if !same {
            return without(Some(SymbolProblem::Changed { module }));
        }
        let own = match Loader::new(&module) {
            Ok(own) => own,
            Err(error) => return without(Some(unreadable(error.to_string()))),
        };
        let separate =
            if found.has_lines { None } else { debug_file::find(&module, &found, debuginfod) };
        let problem = if found.has_lines || separate.is_some() || is_system_library(path) {
            None
        } else if found.has_symbols {
            Some(SymbolProblem::NoDebugInfo { module })
        } else {
            let build_id = debug_file::hexadecimal(&found.build_id);
            Some(SymbolProblem::Stripped { module, build_id })
        };
        Self { own: Some(own), separate, problem }
    }

    pub(super) const fn problem(&self) -> Option<&SymbolProblem> {
        self.problem.as_ref()
    }

    /// The frames at an address of the file, innermost first; empty where nothing is known.
    pub(super) fn frames(&self, address: u64) -> Vec<RawFrame> {
        let mut frames = Vec::new();
        for loader in [&self.own, &self.separate].into_iter().flatten() {
            frames = from_debug_info(loader, address);
            if !frames.is_empty() {
                break;
            }
        }
        // The outermost function at an address is the one that the symbol table knows.
        let symbol = [&self.own, &self.separate]
            .into_iter()
            .flatten()
            .find_map(|loader| loader.find_symbol(address))
            .map(demangle);
        match (frames.last_mut(), symbol) {
            (Some(outermost), Some(symbol)) if qualifies(&symbol, &outermost.function) => {
                outermost.function = Some(symbol);
            }
            (None, Some(symbol)) => {
                frames.push(RawFrame { function: Some(symbol), file: None, line: None });
            }
            _ => {}
        }
        frames
    }
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

fn from_debug_info(loader: &Loader, address: u64) -> Vec<RawFrame> {
    let mut frames = Vec::new();
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
fn is_system_library(path: &str) -> bool {
    ["/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/"].iter().any(|root| path.starts_with(root))
}
