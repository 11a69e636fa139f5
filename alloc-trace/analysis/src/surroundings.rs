//! What the frames outside of a frame say about it.
//!
//! A name alone does not tell what Rust's runtime does for itself: what it calls before `main` and around a
//! thread's first function, other code calls too. Nor does it tell whose a copy of `gimli` is, of which the
//! standard library has one to find the names of a backtrace's functions, and the program may have another.
//! So frames are looked at from the outermost on, and what is known when one is entered is carried inwards.

use std::sync::Arc;

use crate::call_site::{
    CallSite, FrameKind, begins_short_backtrace, call_site, classify, shown_function,
};
use crate::frame::Frame;

/// What surrounds the frames that are still to come, further inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Surroundings {
    /// The program, or nothing is known.
    #[default]
    Program,
    /// `main` as the linker has it, without a source file: a C program's, or the one that rustc makes, with
    /// all that runs before and after the program's inlined.
    Main,
    /// The standard library makes a backtrace, shows it, or has been asked for one.
    Backtrace,
    /// Rust's runtime works for itself: it starts the program or a thread, or reads the names of functions
    /// into a cache that it keeps.
    Runtime,
}

/// Crates that the standard library has copies of for its backtraces.
const BACKTRACE_CRATES: [&str; 9] = [
    "gimli",
    "addr2line",
    "object",
    "miniz_oxide",
    "adler",
    "adler2",
    "rustc_demangle",
    "memchr",
    "fallible_iterator",
];

impl Surroundings {
    /// What kind of code a frame is here, and what surrounds those inside of it.
    pub(crate) fn enter(self, frame: &Frame) -> (FrameKind, Self) {
        let function = frame.function.trim_start_matches(['<', '&']);
        let kind = classify(frame);
        let inside = match kind {
            FrameKind::Entry if begins_short_backtrace(function) => Self::Program,
            FrameKind::Entry => Self::Runtime,
            FrameKind::Program => {
                let of_backtrace = matches!(self, Self::Backtrace | Self::Runtime);
                if of_backtrace && is_backtrace_crate(function) {
                    return (FrameKind::Library, Self::Runtime);
                }
                if function == "main" && frame.file.is_none() { Self::Main } else { Self::Program }
            }
            FrameKind::Library | FrameKind::Allocator => self.within_library(function),
        };
        (kind, inside)
    }

    fn within_library(self, function: &str) -> Self {
        let starts_thread =
            function.starts_with("std::sys::") && function.ends_with("::thread_start");
        if starts_thread || function.starts_with("std::backtrace_rs::symbolize::") {
            return Self::Runtime;
        }
        let makes_backtrace =
            ["std::sys::backtrace::", "std::backtrace::", "std::panicking::default_hook"];
        if makes_backtrace.iter().any(|root| function.starts_with(root)) {
            return Self::Backtrace;
        }
        match self {
            Self::Main if starts_program(function) => Self::Runtime,
            Self::Main => Self::Program,
            other => other,
        }
    }
}

/// Whether a function is one that the runtime calls when it starts a program, and nobody else can.
fn starts_program(function: &str) -> bool {
    function.starts_with("std::rt::")
        || function.starts_with("std::thread::Thread::new")
        || (function.starts_with("std::sys::")
            && (function.contains("::stack_overflow::") || function.ends_with("::init")))
}

/// Whether a function is of a crate that the standard library has a copy of.
fn is_backtrace_crate(function: &str) -> bool {
    let name = function.split(['[', ':']).next().unwrap_or(function);
    BACKTRACE_CRATES.contains(&name)
}

/// What kind of code each of a backtrace's frames is, and what surrounds what they call: the innermost first,
/// and all that there are.
pub(crate) fn kinds(frames: &[&Frame], outside: Surroundings) -> (Vec<FrameKind>, Surroundings) {
    let mut surroundings = outside;
    let mut kinds: Vec<FrameKind> = Vec::with_capacity(frames.len());
    for frame in frames.iter().rev() {
        let (kind, inside) = surroundings.enter(frame);
        surroundings = inside;
        kinds.push(kind);
    }
    kinds.reverse();
    (kinds, surroundings)
}

/// The responsible frame of a whole backtrace, given by the frames at each return address, the innermost
/// first; and the call site that it is.
pub(crate) fn responsible(frames: &[Arc<[Frame]>]) -> Option<(&Frame, CallSite)> {
    let frames: Vec<&Frame> = frames.iter().flat_map(|frames| frames.iter()).collect();
    let (kinds, _) = kinds(&frames, Surroundings::default());
    let (frame, _) = call_site(&frames, &kinds)?;
    let function = shown_function(frame, &frames);
    Some((frame, CallSite { function, ..CallSite::of(frame) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BTREE: &str = "alloc::collections::btree::map::entry::VacantEntry<K,V,A>::insert_entry";
    const START: &str = "std::rt::lang_start_internal";
    const SHORT: &str = "std::sys::backtrace::__rust_begin_short_backtrace";
    const GIMLI: &str = "<gimli::read::abbrev::Abbreviations>::insert";
    const CACHE: &str = "<std::backtrace_rs::symbolize::gimli::Context>::new";
    const PRINT: &str = "std::sys::backtrace::_print_fmt::{closure#1}";

    fn frame(function: &&str) -> Frame {
        let function = (*function).into();
        Frame { function, file: None, line: None, module: Some("/app".into()), named: true }
    }

    fn within(functions: &[&str]) -> (Vec<FrameKind>, Surroundings) {
        let frames: Vec<Frame> = functions.iter().map(frame).collect();
        kinds(&frames.iter().collect::<Vec<_>>(), Surroundings::default())
    }

    fn is_runtime_s_own(functions: &[&str]) -> bool {
        within(functions).1 == Surroundings::Runtime
    }

    #[test]
    fn the_runtime_s_own_are_those_outside_of_main_and_of_a_thread_s_function() {
        let begin = "std::rt::lang_start::{{closure}}";
        let thread = "<std::sys::thread::unix::Thread>::new::thread_start";
        assert!(is_runtime_s_own(&["__rustc::__rust_alloc", BTREE, START, "main", "_start"]));
        assert!(is_runtime_s_own(&["__rustc::__rust_alloc", BTREE, thread, "start_thread"]));
        assert!(!is_runtime_s_own(&[
            "__rustc::__rust_alloc",
            BTREE,
            "app::main",
            SHORT,
            begin,
            START
        ]));
        assert!(
            !is_runtime_s_own(&["__rustc::__rust_alloc", BTREE, SHORT, begin, START]),
            "main inlined"
        );
        assert!(!is_runtime_s_own(&["__rustc::__rust_alloc", BTREE, "app::worker", thread]));
        assert!(!is_runtime_s_own(&["malloc", "main", "_start"]), "a C program's");
        assert!(!is_runtime_s_own(&[BTREE]), "who asked is not known");
    }

    #[test]
    fn what_starts_a_program_is_told_where_all_around_it_was_inlined_into_main() {
        let info = "std::sys::pal::unix::stack_overflow::thread_info::set_current_info";
        assert!(is_runtime_s_own(&["__rustc::__rust_alloc", BTREE, info, "main", "_start"]));
        assert!(is_runtime_s_own(&["__rustc::__rust_alloc", info, "main"]));
        assert!(!is_runtime_s_own(&["__rustc::__rust_alloc", BTREE, "app::main", SHORT, "main"]));
        assert!(
            !is_runtime_s_own(&["__rustc::__rust_alloc", "std::env::args", "main"]),
            "its own main"
        );
        let frames = [frame(&info), Frame { file: Some("main.rs".into()), ..frame(&"main") }];
        let (_, inside) = kinds(&frames.iter().collect::<Vec<_>>(), Surroundings::default());
        assert_eq!(inside, Surroundings::Program, "one with a file is no linker's");
    }

    #[test]
    fn copies_of_crates_are_the_library_s_where_it_makes_a_backtrace() {
        use FrameKind::{Library, Program};
        let (kinds, inside) = within(&[BTREE, GIMLI, CACHE, PRINT, "core::fmt::write", "app::run"]);
        assert_eq!(kinds, [Library, Library, Library, Library, Library, Program]);
        assert_eq!(inside, Surroundings::Runtime, "it keeps what it reads");
        // Without debug information what is between may have been inlined.
        assert_eq!(
            within(&[BTREE, GIMLI, PRINT, "app::run"]).0,
            [Library, Library, Library, Program]
        );
        let own = [BTREE, GIMLI, "app::read", "app::run"];
        assert_eq!(within(&own).0, [Library, Program, Program, Program]);
        let own_in_hook = [GIMLI, "app::hook", "std::panicking::default_hook", "app::run"];
        assert_eq!(within(&own_in_hook).0, [Program, Program, Library, Program]);
        let other = ["serde::de", CACHE, "app::run"];
        assert_eq!(within(&other).0, [Program, Library, Program]);
    }

    #[test]
    fn what_a_backtrace_is_made_of_is_the_program_s_that_asked_for_it() {
        let resolve = "<std::backtrace::Backtrace>::resolve::{closure#0}";
        let (_, inside) = within(&["<[u8]>::to_vec", resolve, CACHE, "app::run"]);
        assert_eq!(inside, Surroundings::Backtrace);
        assert_eq!(within(&["<[u8]>::to_vec", PRINT, "app::run"]).1, Surroundings::Backtrace);
    }
}
