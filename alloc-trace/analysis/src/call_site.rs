//! Which frame of a backtrace is responsible: the call site.
//!
//! The innermost frames are the allocator and the recorder, then come the library functions that
//! asked on somebody's behalf. The call site is the first frame outwards that is code of the
//! program itself or of a crate that it depends on. What surrounds `main` and a thread's first
//! function is runtime, and never a call site while there is another frame.

use std::sync::Arc;

use serde::Serialize;

use crate::cpp_library;
use crate::frame::Frame;

/// A call site: the frame of a backtrace that is responsible for an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct CallSite {
    /// The function's demangled name. `[no backtrace]` where none was recorded, `[unknown]` where
    /// it was lost, `[module+offset]` where the function has no name (`[allocator module+offset]` where
    /// backtraces tell that it is the allocator's). `[runtime]` is what Rust's
    /// runtime asked for on its own behalf: before `main`, around a thread's first function, and for the
    /// names of functions in backtraces, which it reads once and keeps. `[main, inlined]` and
    /// `[a thread's function, inlined]` where these have no frame of their own.
    pub function: Arc<str>,
    /// The source file, where there is debug information.
    pub file: Option<Arc<str>>,
    /// The line of the call, where there is debug information.
    pub line: Option<u32>,
}

impl CallSite {
    pub(crate) fn of(frame: &Frame) -> Self {
        let function = Arc::clone(&frame.function);
        Self { function, file: frame.file.clone(), line: frame.line }
    }
}

/// What kind of code a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// The allocator, the recorder, and the functions by which they are called.
    Allocator,
    /// Rust's own libraries, the C library and C++'s.
    Library,
    /// What calls `main`: nothing outside of it is the program's.
    Entry,
    /// Everything else.
    Program,
}

/// Crates whose every function is an allocator's or the recorder's.
const ALLOCATOR_CRATES: [&str; 9] = [
    "alloc_trace",
    "alloc_trace_preload",
    "alloc_core",
    "alloc_core_capi",
    "__rustc",
    "mimalloc",
    "libmimalloc_sys",
    "tikv_jemallocator",
    "tikv_jemalloc_sys",
];

/// The C and C++ functions that ask for memory on behalf of whoever calls them.
const ALLOCATOR_FUNCTIONS: [&str; 23] = [
    "malloc",
    "calloc",
    "realloc",
    "free",
    "cfree",
    "memalign",
    "aligned_alloc",
    "posix_memalign",
    "valloc",
    "pvalloc",
    "reallocarray",
    "free_sized",
    "free_aligned_sized",
    "malloc_usable_size",
    "__libc_malloc",
    "__libc_calloc",
    "__libc_realloc",
    "__libc_free",
    "__libc_memalign",
    "strdup",
    "strndup",
    "asprintf",
    "vasprintf",
];

/// Crates of Rust's own libraries, and those that they embed and instantiate in user code.
const LIBRARY_CRATES: [&str; 9] = [
    "std",
    "core",
    "alloc",
    "proc_macro",
    "test",
    "std_detect",
    "hashbrown",
    "panic_unwind",
    "panic_abort",
];

/// Where the source files of Rust's own libraries and of the crates that they embed lie.
const LIBRARY_SOURCES: [&str; 4] =
    ["/rustc/", "/rust/deps/", "/lib/rustlib/src/rust/", "library/std/src/"];

/// Shared objects that belong to the C and C++ runtime, by the beginning of their file name.
const RUNTIME_MODULES: [&str; 12] = [
    "libc.so",
    "libc-",
    "ld-linux",
    "ld-musl",
    "ld-2.",
    "libpthread",
    "libm.so",
    "libdl",
    "libgcc_s",
    "libstdc++",
    "libc++",
    "linux-vdso",
];

/// Functions of the C runtime that a static program contains.
const RUNTIME_FUNCTIONS: [&str; 10] = [
    "_start",
    "_start_c",
    "__libc_start_main",
    "__libc_start_call_main",
    "libc_start_main_stage2",
    "start_thread",
    "__clone",
    "__clone3",
    "clone",
    "clone3",
];

/// What calls `main` or a thread's first function. Backtraces that are shown begin there.
const SHORT_BACKTRACES: [&str; 2] = [
    "std::sys::backtrace::__rust_begin_short_backtrace",
    "std::sys_common::backtrace::__rust_begin_short_backtrace",
];

/// The call site among `frames`, innermost first and with what kind of code each is: the responsible frame, and
/// whether it is the program's.
pub(crate) fn call_site<'a>(
    frames: &[&'a Frame],
    kinds: &[FrameKind],
) -> Option<(&'a Frame, bool)> {
    let mut fallback = None;
    for (&frame, kind) in frames.iter().zip(kinds) {
        match kind {
            FrameKind::Program => return Some((frame, true)),
            // The program's function has no frame where it was inlined and there is no debug information.
            FrameKind::Entry if hides_function(frame) => return Some((frame, false)),
            FrameKind::Entry => {
                fallback = fallback.or(Some(frame));
                break;
            }
            FrameKind::Library => fallback = fallback.or(Some(frame)),
            FrameKind::Allocator => {}
        }
    }
    fallback.or(frames.first().copied()).map(|frame| (frame, false))
}

/// Whether a function is the one that calls the program's `main`, or a thread's first function.
pub(crate) fn begins_short_backtrace(function: &str) -> bool {
    SHORT_BACKTRACES.iter().any(|begin| function.starts_with(begin))
}

/// Whether a frame calls `main` or a thread's first function, which have none of their own where they were
/// inlined: only debug information would tell.
fn hides_function(frame: &Frame) -> bool {
    begins_short_backtrace(&frame.function) && frame.file.is_none()
}

/// How a call site's function is called: of one that was inlined into what calls it, as far as that tells.
/// `frames` are those of the whole backtrace, the innermost first.
pub(crate) fn shown_function(site: &Frame, frames: &[&Frame]) -> Arc<str> {
    if !hides_function(site) {
        return Arc::clone(&site.function);
    }
    // Only one of two manglings has the types that a function is for: `…::<app::main::{closure#0}, ()>`.
    let types = site.function.split_once("::<").map(|(_, types)| types);
    let function = types.map(|types| &types[..argument_end(types)]);
    if let Some(function) = function.filter(|name| name.contains("::")) {
        return function.into();
    }
    let starts = |frame: &&Frame| frame.function.starts_with("std::rt::lang_start");
    if frames.iter().any(starts) { "[main, inlined]" } else { "[a thread's function, inlined]" }
        .into()
}

/// Where the first of some generic arguments ends.
fn argument_end(arguments: &str) -> usize {
    let (mut depth, mut previous) = (0_usize, ' ');
    for (index, c) in arguments.char_indices() {
        match c {
            ',' | '>' if depth == 0 && previous != '-' => return index,
            '<' | '(' | '[' => depth += 1,
            '>' if previous == '-' => {}
            '>' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        previous = c;
    }
    arguments.len()
}

/// What kind of code a frame is, by itself: see [`surroundings`](crate::surroundings).
pub(crate) fn classify(frame: &Frame) -> FrameKind {
    let function = &*frame.function;
    if is_allocator(frame) {
        return FrameKind::Allocator;
    }
    if function.starts_with("std::rt::lang_start") || begins_short_backtrace(function) {
        return FrameKind::Entry;
    }
    if is_runtime(frame) {
        return FrameKind::Library;
    }
    // Where the source file is known it decides: names alone cannot tell an implementation of the
    // program's from a blanket one of the library's.
    let library = match &frame.file {
        Some(file) => {
            LIBRARY_SOURCES.iter().any(|root| file.contains(root)) || cpp_library::is_source(file)
        }
        None => is_library_name(function),
    };
    if library { FrameKind::Library } else { FrameKind::Program }
}

fn is_allocator(frame: &Frame) -> bool {
    let function = &*frame.function;
    // Line tables name inlined functions without their path, so a Rust function can have a name
    // of C's; of the recorder's inlined functions only the file tells.
    let rust = frame.file.as_deref().is_some_and(|file| file.ends_with(".rs"));
    // Without a name it is known by the backtraces alone.
    (!frame.named && function.starts_with("[allocator "))
        || (rust && frame.file.as_deref().is_some_and(is_allocator_source))
        || function.starts_with("alloc::alloc::")
        || frame.file.as_deref().is_some_and(|file| file.ends_with("/library/alloc/src/alloc.rs"))
        || function.starts_with("__rust_")
        || function.starts_with("__rg_")
        || function.starts_with("__rdl_")
        || function.starts_with("operator new")
        || function.starts_with("operator delete")
        || function.contains(" as core::alloc::global::GlobalAlloc>::")
        || (!rust && ALLOCATOR_FUNCTIONS.contains(&function))
        || paths(function).next().is_some_and(|path| ALLOCATOR_CRATES.contains(&crate_of(path)))
}

/// Whether a source file is one of the recorder's or the heap's: in a directory `alloc-trace/src`, or
/// `alloc-trace-1.2.3/src` where Cargo keeps what it downloaded.
fn is_allocator_source(file: &str) -> bool {
    let mut previous = "";
    for part in file.split('/') {
        let name = match previous.rsplit_once('-') {
            Some((name, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => name,
            _ => previous,
        };
        if part == "src" && ["alloc-trace", "alloc-trace-format", "alloc-core"].contains(&name) {
            return true;
        }
        previous = part;
    }
    false
}

fn is_runtime(frame: &Frame) -> bool {
    is_in_runtime_module(frame) || RUNTIME_FUNCTIONS.contains(&&*frame.function)
}

/// Whether a frame is in a shared object of the C or C++ runtime.
pub(crate) fn is_in_runtime_module(frame: &Frame) -> bool {
    frame.module.as_deref().is_some_and(is_runtime_module)
}

/// Whether a shared object belongs to the C or C++ runtime: no frame in it is ever the program's.
pub(crate) fn is_runtime_module(path: &str) -> bool {
    let base_name = path.rsplit('/').next().unwrap_or(path);
    RUNTIME_MODULES.iter().any(|runtime| base_name.starts_with(runtime))
}

/// Whether a function is of C++'s library or of Rust's own, judged by its name: every path in it that could
/// make it the program's is theirs, or is no path.
fn is_library_name(function: &str) -> bool {
    // C++ has namespaces that are called as crates of Rust's are.
    if function.starts_with("_Z") || cpp_library::qualified_name(function).is_some() {
        return cpp_library::is_function(function);
    }
    let mut any = false;
    for path in paths(function) {
        any = true;
        let name = crate_of(path);
        // `T`, `[u8]`, `&str` and `(A, B)` belong to nobody: another path decides.
        if !LIBRARY_CRATES.contains(&name) && path.contains("::") {
            return false;
        }
    }
    any && function.contains("::")
}

/// The crate that a call site's function is of; `None` for C and C++, and where there is no name.
pub(crate) fn crate_name(site: &CallSite) -> Option<&str> {
    let other_language = match &site.file {
        Some(file) => !file.ends_with(".rs"),
        None => cpp_library::qualified_name(&site.function).is_some(),
    };
    if other_language {
        return None;
    }
    // Of `<[T] as app::Trait>::method` the trait's.
    let mut of_paths = paths(&site.function).filter(|path| path.contains("::"));
    of_paths.next().map(crate_of).filter(|name| !name.is_empty() && !name.starts_with('['))
}

/// The paths that say whose a function is: of `<Type as Trait>::method` the type's and the trait's,
/// of anything else the one that it begins with.
fn paths(function: &str) -> impl Iterator<Item = &str> {
    let (first, second) = match function.strip_prefix('<') {
        Some(rest) => {
            let head = matching_end(rest).map_or(rest, |end| &rest[..end]);
            match split_as(head) {
                Some((kind, implemented)) => (kind, Some(implemented)),
                None => (head, None),
            }
        }
        None => (function, None),
    };
    std::iter::once(first).chain(second).map(bare_path)
}

/// A type or a trait without references and the like before it, and without its generics.
fn bare_path(path: &str) -> &str {
    let path = path.trim_start_matches(['&', '*', '(', '[', '<', ' ']);
    let path = ["mut ", "const ", "dyn ", "impl "]
        .iter()
        .fold(path, |path, word| path.strip_prefix(word).unwrap_or(path));
    path.split(['<', '>', ' ', ',', ')', ']', ';']).next().unwrap_or(path)
}

/// The crate of a path, without the disambiguator that some versions print.
fn crate_of(path: &str) -> &str {
    let name = path.split("::").next().unwrap_or(path);
    name.split('[').next().unwrap_or(name)
}

/// Where the `>` stands that closes a `<` before `text`.
fn matching_end(text: &str) -> Option<usize> {
    let mut depth = 1_usize;
    let mut previous = ' ';
    for (index, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if previous != '-' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(index);
        }
        previous = c;
    }
    None
}

/// Splits `Type as Trait` at the `as` that is not within generics.
fn split_as(head: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    for (index, c) in head.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 && head[index..].starts_with(" as ") => {
                return Some((&head[..index], &head[index + 4..]));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::{self, Surroundings};

    fn frame(function: &str, file: Option<&str>) -> Frame {
        Frame {
            function: function.into(),
            file: file.map(Into::into),
            line: None,
            module: Some("/app".into()),
            named: true,
        }
    }

    fn innermost_of<'a>(frames: &[&'a Frame]) -> Option<(&'a Frame, bool)> {
        let (kinds, _) = surroundings::kinds(frames, Surroundings::default());
        call_site(frames, &kinds)
    }

    fn innermost(frames: &[Frame]) -> Option<(&Frame, bool)> {
        innermost_of(&frames.iter().collect::<Vec<_>>())
    }

    #[test]
    fn names_alone_tell_library_code_from_the_program_s() {
        let library = [
            "alloc::vec::Vec<T,A>::push",
            "alloc::raw_vec::RawVecInner<A>::reserve::do_reserve_and_handle",
            "<alloc::vec::Vec<T> as core::clone::Clone>::clone",
            "<T as alloc::slice::hack::ConvertVec>::to_vec",
            "<str as alloc::string::ToString>::to_string",
            "<[T] as alloc::borrow::ToOwned>::to_owned",
            "<&T as core::fmt::Display>::fmt",
            "core::ops::function::FnOnce::call_once{{vtable.shim}}",
            "hashbrown::raw::RawTable<T,A>::reserve_rehash",
            "<alloc::boxed::Box<dyn FnOnce<()>> as core::ops::function::FnOnce<()>>::call_once",
            "std::thread::Builder::spawn_unchecked_",
        ];
        for name in library {
            assert_eq!(classify(&frame(name, None)), FrameKind::Library, "{name}");
        }
        let program = [
            "app::main",
            "app::main::{closure#0}",
            "<app::Tree as core::clone::Clone>::clone",
            "<alloc::vec::Vec<T> as app::Extend>::extend",
            "<app::Tree<T> as core::iter::traits::collect::FromIterator<T>>::from_iter",
            "serde_json::de::from_str",
            "main",
            "alloc_tracer::run",
            "[app+0x10]",
        ];
        for name in program {
            assert_eq!(classify(&frame(name, None)), FrameKind::Program, "{name}");
        }
    }

    #[test]
    fn the_source_file_decides_where_it_is_known() {
        let library = "/rustc/0123abc/library/alloc/src/string.rs";
        let blanket = "<app::Tree as alloc::string::ToString>::to_string";
        assert_eq!(classify(&frame(blanket, Some(library))), FrameKind::Library);
        assert_eq!(classify(&frame(blanket, Some("src/tree.rs"))), FrameKind::Program);
        let sources = "/root/.rustup/toolchains/stable/lib/rustlib/src/rust/library/core/src/a.rs";
        assert_eq!(classify(&frame("core::iter::next", Some(sources))), FrameKind::Library);
    }

    #[test]
    fn c_plus_plus_s_library_is_folded_and_what_it_was_given_is_not() {
        let header = "/usr/include/c++/12/bits/std_function.h";
        let handler =
            "std::_Function_handler<int (int), run(int)::{lambda(int)#1}>::_M_invoke(int)";
        let mangled = "_ZNKSt14default_deleteIA_cEclIcEENSt9enable_ifIXsrSt14is_convertibleE";
        let frames = |files: bool| {
            let file = |file| Some(file).filter(|_| files);
            [
                frame("operator new(unsigned long)", file("src/a.cpp")),
                frame("void* std::__new_allocator<char>::allocate(unsigned long)", file(header)),
                frame(if files { "_M_create" } else { mangled }, file(header)),
                frame("run(int)::{lambda(int)#1}::operator()(int) const", file("src/a.cpp")),
                frame(handler, file(header)),
                frame("run(int)", file("src/a.cpp")),
            ]
        };
        for files in [true, false] {
            let frames = frames(files);
            assert_eq!(innermost(&frames).map(|(site, _)| site), Some(&frames[3]), "{files}");
            assert_eq!(innermost(&frames[4..]).map(|(site, _)| site), Some(&frames[5]), "{files}");
        }
        let own = frame("core::Thing::run(int)", None);
        assert_eq!(classify(&own), FrameKind::Program, "a namespace of the program's");
    }

    #[test]
    fn allocators_and_the_recorder_are_told_by_name() {
        for name in [
            "alloc::alloc::alloc",
            "__rustc::__rust_alloc",
            "__rustc[1234]::__rust_alloc",
            "__rg_alloc",
            "alloc_trace::hook::alloc",
            "<alloc_trace::TraceAlloc<A> as core::alloc::global::GlobalAlloc>::alloc",
            "<app::Counting as core::alloc::global::GlobalAlloc>::realloc",
            "malloc",
            "operator new(unsigned long)",
        ] {
            assert_eq!(classify(&frame(name, None)), FrameKind::Allocator, "{name}");
        }
    }

    #[test]
    fn of_inlined_functions_without_a_path_the_file_tells() {
        for file in [
            "/home/me/alloc-trace/src/trace_alloc.rs",
            "/home/me/.cargo/registry/src/index.crates.io-6f17/alloc-trace-0.1.0/src/mode.rs",
        ] {
            assert_eq!(classify(&frame("tell", Some(file))), FrameKind::Allocator, "{file}");
        }
        for (name, file) in [
            ("free", "/home/me/pool/src/lib.rs"),
            ("tell", "/home/me/alloc-trace/analysis/src/lib.rs"),
            ("tell", "/home/me/my-alloc-trace/src/lib.rs"),
        ] {
            assert_eq!(classify(&frame(name, Some(file))), FrameKind::Program, "{file}");
        }
        assert_eq!(classify(&frame("free", Some("malloc.c"))), FrameKind::Allocator);
    }

    #[test]
    fn nothing_outside_of_the_entry_is_the_program_s() {
        let frames = [
            frame("__rustc::__rust_alloc", None),
            frame("std::thread::main_thread", None),
            frame("std::rt::lang_start_internal", None),
            frame("main", None),
        ];
        let (site, program) = innermost(&frames).expect("frames");
        assert_eq!((&*site.function, program), ("std::thread::main_thread", false));
        let frames = [frame("malloc", None), frame("main", None), frame("_start", None)];
        assert_eq!(&*innermost(&frames).expect("frames").0.function, "main", "a C program's");
    }

    #[test]
    fn a_function_that_was_inlined_into_what_calls_it_is_named_as_far_as_that_tells() {
        let short = "std::sys::backtrace::__rust_begin_short_backtrace";
        let with_types = format!("{short}::<app::main::{{closure#0}}, ()>");
        let returns = format!("{short}::<fn(u8) -> app::Tree, app::Tree>");
        let site = |functions: &[&str]| {
            let frames: Vec<Frame> = functions.iter().map(|name| frame(name, None)).collect();
            let frames: Vec<&Frame> = frames.iter().collect();
            let (site, _) = innermost_of(&frames).expect("frames");
            shown_function(site, &frames).to_string()
        };
        let (grow, start) =
            ("alloc::raw_vec::RawVec<T,A>::grow_one", "std::rt::lang_start_internal");
        assert_eq!(site(&[grow, &with_types, "start_thread"]), "app::main::{closure#0}");
        assert_eq!(site(&[grow, &returns, "start_thread"]), "fn(u8) -> app::Tree");
        assert_eq!(site(&[grow, short, "start_thread"]), "[a thread's function, inlined]");
        assert_eq!(site(&[grow, short, start, "main"]), "[main, inlined]");
        assert_eq!(site(&[grow, "app::work", short, start, "main"]), "app::work");
        let known =
            Frame { file: Some("/rustc/1/library/std/src/a.rs".into()), ..frame(short, None) };
        let frames = [&frame(grow, None), &known];
        assert_eq!(
            &*innermost_of(&frames).expect("frames").0.function,
            grow,
            "with debug information"
        );
    }

    #[test]
    fn allocator_frames_alone_give_the_innermost() {
        let frames = [frame("malloc", None), frame("calloc", None)];
        assert_eq!(&*innermost(&frames).expect("frames").0.function, "malloc");
        assert_eq!(innermost(&[]), None);
    }
}
