//! The library's names, what else is in it, and how its fast path finds its thread-local memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use object::{Object, ObjectSection, ObjectSymbol};

use crate::library::{LIBRARY, RELEASE_LIBRARY};

/// Every name under which blocks are handed out or taken back, those that tell about them, and those of
/// functions that must not find a thread of the heap's.
const NAMES: [&str; 41] = [
    // C.
    "malloc",
    "calloc",
    "realloc",
    "free",
    "aligned_alloc",
    "free_sized",
    "free_aligned_sized",
    // POSIX, and older.
    "posix_memalign",
    "valloc",
    "memalign",
    "pvalloc",
    "cfree",
    "reallocarray",
    // glibc's.
    "malloc_usable_size",
    "malloc_trim",
    "mallinfo",
    "mallinfo2",
    "__libc_malloc",
    "__libc_calloc",
    "__libc_realloc",
    "__libc_free",
    "__libc_memalign",
    "__libc_valloc",
    "__libc_pvalloc",
    "__posix_memalign",
    // C++: the four that all others go through.
    "_Znwm",
    "_ZnwmSt11align_val_t",
    "_ZdlPv",
    "_ZdlPvSt11align_val_t",
    // A process's user and groups.
    "setuid",
    "seteuid",
    "setreuid",
    "setresuid",
    "setgid",
    "setegid",
    "setregid",
    "setresgid",
    "setgroups",
    "initgroups",
    // What a process of one thread may do.
    "unshare",
    "setns",
];

fn exported(library: &Path) -> BTreeSet<String> {
    let bytes = fs::read(library).expect("the library");
    let file = object::File::parse(&*bytes).expect("a library");
    let symbols = file.dynamic_symbols().filter(|symbol| symbol.is_definition());
    symbols.map(|symbol| symbol.name().expect("a name").to_owned()).collect()
}

#[test]
fn every_name_of_the_family_is_exported_and_no_other() {
    let names = exported(&LIBRARY);
    let wanted: BTreeSet<_> = NAMES.map(str::to_owned).into();
    let missing: Vec<_> = wanted.difference(&names).collect();
    let other: Vec<_> = names.difference(&wanted).collect();
    assert!(missing.is_empty() && other.is_empty(), "missing {missing:?}, other {other:?}");
}

/// What each process would have mapped, and read from the disk: the standard library is larger than the
/// heap, and the unwinder is one more library.
#[test]
fn the_standard_library_and_its_unwinder_are_not_in_a_release_build() {
    let bytes = fs::read(&*RELEASE_LIBRARY).expect("the library");
    let file = object::File::parse(&*bytes).expect("a library");
    let needed = file.section_by_name(".dynstr").expect("names of libraries");
    let needed = String::from_utf8_lossy(needed.data().expect("its bytes")).into_owned();
    assert!(needed.contains("libc.so"), "{needed:?}");
    assert!(!needed.contains("libgcc"), "{needed:?}");
    let functions: Vec<_> = file.symbols().filter_map(|symbol| symbol.name().ok()).collect();
    assert!(functions.len() > NAMES.len());
    let of_runtime =
        |name: &&&str| ["panicking", "backtrace", "_Unwind_"].iter().any(|it| name.contains(it));
    let runtime: Vec<_> = functions.iter().filter(of_runtime).collect();
    assert!(runtime.is_empty(), "{runtime:?}");
}

/// Of the ordinary build: `malloc` and `free` are asked too often for a call to find what is the thread's.
#[test]
#[cfg_attr(feature = "hardened", ignore = "the hardened build looks at more before")]
fn thread_local_memory_is_found_without_a_call() {
    let bytes = fs::read(&*RELEASE_LIBRARY).expect("the library");
    let file = object::File::parse(&*bytes).expect("a library");
    for name in ["malloc", "free", "_Znwm", "_ZdlPv"] {
        let symbol = file.dynamic_symbols().find(|symbol| symbol.name() == Ok(name));
        let symbol = symbol.expect("a name of the library");
        let (start, end) = (symbol.address(), symbol.address() + symbol.size());
        let output = Command::new("objdump")
            .args(["-d", "-M", "intel", "--no-show-raw-insn"])
            .args([format!("--start-address={start}"), format!("--stop-address={end}")])
            .arg(&*RELEASE_LIBRARY)
            .output();
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "no objdump: {error}");
                eprintln!("SKIPPED, not tested: objdump is not here: {error}");
                return;
            }
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let code: Vec<_> = text.lines().filter(|line| line.starts_with("   ")).collect();
        assert!(code.len() > 10, "{name}: {text}");
        assert!(!text.contains("__tls_get_addr"), "{name}: {text}");
        if cfg!(target_arch = "x86_64") {
            assert!(text.contains("fs:"), "{name} reads no thread-local memory: {text}");
            // Before it leaves for a slow path or ends, it has called nothing.
            let first_access = code.iter().position(|line| line.contains("fs:"));
            let first_call = code.iter().position(|line| line.contains("call "));
            assert!(first_access < Some(first_call.unwrap_or(code.len())), "{name}: {text}");
        }
    }
}
