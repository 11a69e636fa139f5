//! The symbols of one module: its own file, and a file of debug information beside it.
//!
//! Debug information is opened when somebody asks for what it alone tells. What is compressed of it is
//! inflated as a whole then: of the C library that takes longer than all else that a report asks for names.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use addr2line::Loader;
use object::read::ReadCache;
use object::{Object, ObjectSection};

use super::function_table::FunctionTable;
use super::name::demangle;
use super::{SymbolProblem, debug_file};

/// A frame as the debug information states it.
#[derive(Debug)]
pub(super) struct RawFrame {
    pub(super) function: Option<String>,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
}

impl RawFrame {
    fn of_symbol(name: String) -> Self {
        Self { function: Some(name), file: None, line: None }
    }
}

/// Where a module's names come from.
pub(super) struct ModuleSymbols {
    module: PathBuf,
    /// What the module's file says of itself; `None` where it is not asked for names.
    found: Option<Found>,
    debuginfod: bool,
    /// The file of its debug information, where that is one of its own.
    separate: Option<PathBuf>,
    /// The symbol tables of its own file and of that, as far as they alone were asked.
    tables: [Option<FunctionTable>; 2],
    /// All that both tell, if that was asked for.
    whole: Option<[Option<Loader>; 2]>,
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
        let (found, problem) = match Found::examine(&module) {
            _ if virtual_module => (None, None),
            Ok(found) if found.is_of(recorded_build_id, recorded_at_ns) => (Some(found), None),
            Ok(_) => (None, Some(SymbolProblem::Changed { module: module.clone() })),
            Err(reason) => {
                (None, Some(SymbolProblem::Unreadable { module: module.clone(), reason }))
            }
        };
        let apart = found.as_ref().filter(|found| !found.has_lines);
        let separate = apart.and_then(|found| debug_file::find(&module, found));
        Self { module, found, debuginfod, separate, tables: [None, None], whole: None, problem }
    }

    pub(super) const fn problem(&self) -> Option<&SymbolProblem> {
        self.problem.as_ref()
    }

    /// The frames at an address of the file, innermost first; empty where nothing is known.
    pub(super) fn frames(&mut self, address: u64) -> Vec<RawFrame> {
        let Some(found) = &self.found else { return Vec::new() };
        let files = self.whole.get_or_insert_with(|| {
            if !found.has_lines && self.separate.is_none() && self.debuginfod {
                self.separate = debug_file::download(found);
            }
            let own = match Loader::new(&self.module) {
                Ok(own) => Some(own),
                Err(error) => {
                    let (module, reason) = (self.module.clone(), error.to_string());
                    self.problem = Some(SymbolProblem::Unreadable { module, reason });
                    None
                }
            };
            let separate = own.as_ref().and(self.separate.as_ref());
            let separate = separate.and_then(|path| Loader::new(path).ok());
            if own.is_some() && separate.is_none() {
                self.problem = found.lack(&self.module);
            }
            [own, separate]
        });
        let files = || files.iter().flatten();
        let stated = files().map(|file| from_debug_info(file, address));
        let mut frames = stated.into_iter().find(|frames| !frames.is_empty()).unwrap_or_default();
        // The outermost function at an address is the one that the symbol table knows.
        let symbol = files().find_map(|file| file.find_symbol(address)).map(demangle);
        match (frames.last_mut(), symbol) {
            (Some(outermost), Some(symbol)) if qualifies(&symbol, &outermost.function) => {
                outermost.function = Some(symbol);
            }
            (None, Some(symbol)) => frames.push(RawFrame::of_symbol(symbol)),
            _ => {}
        }
        frames
    }

    /// The function at an address of the file by symbol tables alone.
    pub(super) fn function(&mut self, address: u64) -> Option<RawFrame> {
        self.found.as_ref()?;
        let files = [Some(&self.module), self.separate.as_ref()].into_iter().flatten();
        let symbol = files.zip(&mut self.tables).find_map(|(file, table)| {
            table.get_or_insert_with(|| FunctionTable::read(file)).name(address)
        });
        symbol.map(|symbol| RawFrame::of_symbol(demangle(symbol)))
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
