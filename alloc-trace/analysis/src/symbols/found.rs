//! What a file says of itself: whether it is the module that was recorded, and what of names and lines it has.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use object::read::ReadCache;
use object::{Object, ObjectSection};

use super::SymbolProblem;

/// What a module's file says of itself.
pub(super) struct Found {
    pub(super) build_id: Vec<u8>,
    modified_at_ns: Option<u64>,
    pub(super) has_lines: bool,
    has_symbols: bool,
    /// The name and the checksum of a file that has its debug information.
    pub(super) debug_link: Option<(PathBuf, u32)>,
}

impl Found {
    /// Whether it is the file that was recorded: it has the same build id, or none and is older.
    pub(super) fn is_of(&self, recorded_build_id: &[u8], recorded_at_ns: u64) -> bool {
        if recorded_build_id.is_empty() {
            return self.modified_at_ns.is_none_or(|modified| modified <= recorded_at_ns);
        }
        self.build_id == recorded_build_id
    }

    /// What a module lacks that has no other file than this.
    pub(super) fn lack(&self, module: &Path) -> Option<SymbolProblem> {
        if self.has_lines || is_system_library(module) {
            return None;
        }
        let module = module.to_owned();
        if self.has_symbols {
            return Some(SymbolProblem::NoDebugInfo { module });
        }
        let build_id = hexadecimal(&self.build_id);
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

/// A build id as it is written.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
