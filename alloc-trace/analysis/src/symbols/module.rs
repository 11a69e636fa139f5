//! The symbols of one module: its own file, and a file of debug information beside it.
//!
//! Debug information is opened when somebody asks for what it alone tells. What is compressed of it is
//! inflated as a whole then: of the C library that takes longer than all else that a report asks for names.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use super::found::Found;
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
