//! The files that a program's code was loaded from.

use alloc_trace_format::Module;

use crate::symbols::hexadecimal;

/// A module of the recorded program: its executable, or a shared object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadedModule {
    /// The file.
    pub path: Box<str>,
    /// The first mapped address.
    pub start: u64,
    /// The address behind the last mapped one.
    pub end: u64,
    /// What is added to an address in the file to get one in memory.
    pub bias: u64,
    /// The GNU build id; empty where there is none.
    pub build_id: Box<[u8]>,
}

impl LoadedModule {
    /// The build id as it is written, in hexadecimal; empty where there is none.
    #[must_use]
    pub fn build_id_text(&self) -> String {
        hexadecimal(&self.build_id)
    }
}

impl From<&Module> for LoadedModule {
    fn from(module: &Module) -> Self {
        let Module { path, start, end, bias, build_id, .. } = module;
        let (path, build_id) = (path.clone(), build_id.clone());
        Self { path, start: *start, end: *end, bias: *bias, build_id }
    }
}
