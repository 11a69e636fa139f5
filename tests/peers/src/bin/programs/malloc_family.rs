//! How many instructions a program spends in its allocator, counted by valgrind's callgrind.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

/// The entry points, by their names in the symbol table.
const NAMES: [&str; 14] = [
    "malloc",
    "free",
    "calloc",
    "realloc",
    "reallocarray",
    "memalign",
    "posix_memalign",
    "aligned_alloc",
    "valloc",
    "pvalloc",
    "malloc_usable_size",
    "cfree",
    "free_sized",
    "free_aligned_sized",
];

/// What precedes a command so that callgrind counts it and all that it starts, into a folder.
pub(crate) fn counting(folder: &Path) -> Vec<String> {
    let file = folder.join("callgrind.%p");
    [
        "valgrind",
        "--tool=callgrind",
        "--trace-children=yes",
        "--demangle=no",
        "--compress-pos=no",
        "-q",
        &format!("--callgrind-out-file={}", file.display()),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The instructions of all calls from outside of an allocator into it, in all of a folder's counts,
/// with what they call in turn (clearing, copying).
///
/// The allocator is the entry points of any library, C++'s operators, and whatever lies in `library`.
pub(crate) fn instructions(folder: &Path, library: Option<&Path>) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"callgrind.")) {
            let library = library.map(|library| library.to_string_lossy().into_owned());
            total += in_calls(&fs::read_to_string(path)?, library.as_deref());
        }
    }
    Ok(total)
}

fn in_calls(text: &str, library: Option<&str>) -> u64 {
    let mut objects = Names::default();
    let mut functions = Names::default();
    let (mut object, mut function) = (String::new(), String::new());
    let (mut called_object, mut called_function) = (None, String::new());
    // Functions inlined from elsewhere do not change the object, and a call names its callee's object
    // only where it is not the caller's.
    let is_allocator = |object: &str, function: &str| {
        library.is_some_and(|library| object == library)
            || NAMES.contains(&function)
            || function.starts_with("_Zn")
            || function.starts_with("_Zd")
    };
    let mut total = 0;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((key, value)) = line.split_once('=') else { continue };
        match key {
            "ob" => object = objects.full(value),
            "fn" => function = functions.full(value),
            "cob" => called_object = Some(objects.full(value)),
            "cfn" => called_function = functions.full(value),
            "calls" => {
                let cost = lines.next().and_then(|line| line.split(' ').nth(1));
                let callee = called_object.take().unwrap_or_else(|| object.clone());
                if is_allocator(&callee, &called_function) && !is_allocator(&object, &function) {
                    total += cost.and_then(|cost| cost.parse::<u64>().ok()).unwrap_or(0);
                }
            }
            _ => {}
        }
    }
    total
}

/// Names that are written once, with a number, and by the number from then on.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn full(&mut self, written: &str) -> String {
        let Some((number, name)) = written.split_once(')') else { return written.to_owned() };
        let name = name.trim();
        if name.is_empty() {
            return self.0.get(number).cloned().unwrap_or_default();
        }
        self.0.insert(number.to_owned(), name.to_owned());
        // Recursion levels are written as name'2.
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: &str = "\
version: 1
positions: line
events: Ir

ob=(1) /usr/bin/program
fl=(1) ???
fn=(1) main
0 100
cob=(2) /lib/allocator.so
cfn=(2) malloc
calls=3 0
0 60
cob=(3) /lib/libc.so.6
cfn=(3) qsort
calls=1 0
0 1000

ob=(2)
fn=(2)
0 40
cfn=(4) slow
calls=1 0
0 20

ob=(3)
fn=(3)
0 900
cob=(2)
cfn=(5) on_exit
calls=1 0
0 7
cfn=(6) free
calls=1 0
0 11
";

    #[test]
    fn calls_into_the_allocator_count_once() {
        // malloc and what is called by its library's other name; not what malloc calls inside.
        assert_eq!(in_calls(COUNTS, Some("/lib/allocator.so")), 60 + 7 + 11);
        // Without the library, only the entry points' names.
        assert_eq!(in_calls(COUNTS, None), 60 + 11);
    }
}
