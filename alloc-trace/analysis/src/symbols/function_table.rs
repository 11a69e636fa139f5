//! The functions of a file's symbol table, without any debug information.

use std::fs::File;
use std::path::Path;

use object::Object;
use object::read::ReadCache;

/// Functions by address.
#[derive(Debug, Default)]
pub(super) struct FunctionTable {
    /// Where each begins, how long it is (0 where that is not known), and its name; by address.
    functions: Vec<(u64, u64, Box<str>)>,
}

impl FunctionTable {
    /// The table of a file: an empty one where that cannot be read.
    pub(super) fn read(path: &Path) -> Self {
        let Ok(file) = File::open(path) else { return Self::default() };
        let cache = ReadCache::new(file);
        let Ok(object) = object::File::parse(&cache) else { return Self::default() };
        let symbols = object.symbol_map();
        let functions = symbols.symbols().iter();
        let functions =
            functions.map(|symbol| (symbol.address(), symbol.size(), symbol.name().into()));
        Self { functions: functions.collect() }
    }

    /// The name of the function that has an address.
    pub(super) fn name(&self, address: u64) -> Option<&str> {
        let behind = self.functions.partition_point(|&(begin, ..)| begin <= address);
        let (begin, length, name) = self.functions.get(behind.checked_sub(1)?)?;
        (*length == 0 || address - begin < *length).then_some(name)
    }
}
