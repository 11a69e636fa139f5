//! What a block is the memory of, told by the library's functions that asked for it.
//!
//! Between the allocator and a call site stand the functions of Rust's own libraries that were called
//! there: `Box::new`, `Vec::push` and what that calls, and so on. Where they were inlined their names are in
//! the debug information; without that nothing may be known.

use serde::Serialize;

use crate::call_site::FrameKind;

/// What a block is the memory of. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Holder {
    /// A value in a `Box`.
    Box,
    /// A value in an `Rc` or an `Arc`.
    Shared,
    /// The elements of a `Vec` or another list without gaps.
    Vec,
    /// The text of a `String`, a path or the like.
    Text,
    /// A hash table.
    HashTable,
    /// A node of a B-tree.
    BTree,
    /// What a channel of the standard library has: its ends, its messages, who waits.
    Channel,
    /// What the standard library has for a thread: what it begins with, what it answers, its handle, its scope.
    Thread,
}

impl Holder {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::Thread as usize + 1;
}

/// What a frame's function works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Whole(Holder),
    /// A `Box` that is filled later: `vec![…]` makes one and turns it into a `Vec`.
    UnfilledBox,
}

/// Where the sources of what holds blocks lie, below the library's directory.
const SOURCES: [(&str, Holder); 17] = [
    ("alloc/src/boxed", Holder::Box),
    ("alloc/src/rc.rs", Holder::Shared),
    ("alloc/src/sync.rs", Holder::Shared),
    ("alloc/src/raw_vec", Holder::Vec),
    ("alloc/src/vec/", Holder::Vec),
    ("alloc/src/slice.rs", Holder::Vec),
    ("alloc/src/collections/vec_deque", Holder::Vec),
    ("alloc/src/collections/binary_heap", Holder::Vec),
    ("alloc/src/string.rs", Holder::Text),
    ("alloc/src/str.rs", Holder::Text),
    ("alloc/src/fmt.rs", Holder::Text),
    ("std/src/path.rs", Holder::Text),
    ("alloc/src/collections/btree", Holder::BTree),
    ("std/src/sync/mpmc/", Holder::Channel),
    ("std/src/sync/mpsc", Holder::Channel),
    ("std/src/thread/", Holder::Thread),
    ("std/src/sys/thread/", Holder::Thread),
];

/// What the names of functions begin with, where there is no file.
const NAMES: [(&str, Holder); 15] = [
    ("alloc::boxed::", Holder::Box),
    ("alloc::rc::", Holder::Shared),
    ("alloc::sync::", Holder::Shared),
    ("alloc::raw_vec::", Holder::Vec),
    ("alloc::vec::", Holder::Vec),
    ("alloc::slice::", Holder::Vec),
    ("alloc::string::", Holder::Text),
    ("alloc::str::", Holder::Text),
    ("alloc::fmt::", Holder::Text),
    ("std::path::", Holder::Text),
    ("std::ffi::os_str::", Holder::Text),
    ("alloc::collections::btree", Holder::BTree),
    ("std::sync::mpmc::", Holder::Channel),
    ("std::sync::mpsc::", Holder::Channel),
    ("std::thread::", Holder::Thread),
];

/// Where a thread's own variables are: what they hold is no thread's.
const THREAD_LOCALS: [&str; 2] = ["std/src/thread/local", "std::thread::local::"];

/// What a function of the library works on; `None` where that says nothing of a block.
pub(crate) fn part(function: &str, file: Option<&str>) -> Option<Part> {
    let is_local = |text: &str| THREAD_LOCALS.iter().any(|local| text.contains(local));
    if is_local(function) || file.is_some_and(is_local) {
        return None;
    }
    let of_file = file.and_then(|file| {
        if file.contains("/hashbrown-") {
            return Some(Holder::HashTable);
        }
        let (_, source) = file.rsplit_once("/library/")?;
        let text =
            source.starts_with("std/src/ffi/os_str") || source.starts_with("std/src/sys/os_str");
        let known = || SOURCES.iter().find(|(root, _)| source.starts_with(root));
        if text { Some(Holder::Text) } else { known().map(|&(_, holder)| holder) }
    });
    let of_name = || {
        let name = function.trim_start_matches('<');
        // Of an implementation for every type the trait tells.
        let name = name.strip_prefix("T as ").unwrap_or(name);
        if name.starts_with("hashbrown::") {
            return Some(Holder::HashTable);
        }
        NAMES.iter().find(|(root, _)| name.starts_with(root)).map(|&(_, holder)| holder)
    };
    let holder = of_file.or_else(of_name)?;
    let unfilled = holder == Holder::Box && function.contains("new_uninit");
    Some(if unfilled { Part::UnfilledBox } else { Part::Whole(holder) })
}

/// What a block is the memory of, by the frames that asked for it, the innermost first: their kinds, and
/// what they work on.
pub(crate) fn holder(
    frames: impl IntoIterator<Item = (FrameKind, Option<Part>)>,
) -> Option<Holder> {
    let mut found: Option<Part> = None;
    let mut is_settled = false;
    for (kind, part) in frames {
        match (kind, found, part) {
            (FrameKind::Program | FrameKind::Entry, ..) => break,
            // All that is asked for when a thread begins is for that.
            (_, _, Some(Part::Whole(Holder::Thread))) => found = part,
            _ if is_settled => {}
            // Before the first that says something.
            (_, None, part) => found = part,
            // A channel makes its ends, its messages' blocks and its list of who waits with these.
            (_, Some(_), Some(Part::Whole(Holder::Channel)))
            | (
                _,
                Some(Part::UnfilledBox),
                Some(Part::Whole(Holder::Box | Holder::Shared | Holder::BTree)),
            )
            | (_, Some(Part::Whole(Holder::Box)), Some(Part::Whole(Holder::Shared)))
            | (_, Some(Part::Whole(Holder::Vec)), Some(Part::Whole(Holder::Text))) => found = part,
            (_, Some(known), Some(part)) if known == part => {}
            // A list of boxes asks for boxes: what is further out holds other blocks.
            (_, Some(_), _) => is_settled = true,
        }
    }
    Some(match found? {
        Part::Whole(holder) => holder,
        Part::UnfilledBox => Holder::Vec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(functions: &[&str]) -> Option<Holder> {
        let library = functions.iter().map(|name| (FrameKind::Library, part(name, None)));
        let program = (FrameKind::Program, part("app::main", None));
        let outside = (FrameKind::Library, part("alloc::sync::Arc<T>::new", None));
        holder(library.chain([program, outside]))
    }

    #[test]
    fn the_library_s_functions_tell_what_holds_a_block() {
        let raw = "alloc::raw_vec::RawVecInner<A>::try_allocate_in";
        let boxed = ["alloc::boxed::box_new_uninit", "alloc::boxed::Box<T>::new"];
        let unfilled = ["alloc::boxed::box_new_uninit", "alloc::boxed::Box<T>::new_uninit"];
        for (functions, expected) in [
            (&boxed[..], Some(Holder::Box)),
            (&unfilled, Some(Holder::Vec)),
            (&[boxed[0], boxed[1], "alloc::sync::Arc<T>::new"], Some(Holder::Shared)),
            (&[unfilled[1], "<alloc::sync::Arc<T> as Default>::default"], Some(Holder::Shared)),
            (&[boxed[0], boxed[1], "<alloc::vec::Vec<T> as Clone>::clone"], Some(Holder::Box)),
            (&["alloc::alloc::alloc", raw, "alloc::vec::Vec<T>::with_capacity"], Some(Holder::Vec)),
            (
                &[
                    raw,
                    "<alloc::vec::Vec<u8> as Clone>::clone",
                    "<alloc::string::String as Clone>::clone",
                ],
                Some(Holder::Text),
            ),
            (
                &[raw, "core::iter::Iterator::collect", "alloc::string::String::from"],
                Some(Holder::Vec),
            ),
            (&["hashbrown::raw::RawTable<T,A>::reserve_rehash"], Some(Holder::HashTable)),
            (
                &[unfilled[0], unfilled[1], "alloc::collections::btree::node::LeafNode<K,V>::new"],
                Some(Holder::BTree),
            ),
            (&[boxed[0], boxed[1], "std::sync::mpmc::counter::new"], Some(Holder::Channel)),
            (
                &[raw, "alloc::vec::Vec<T>::push", "std::sync::mpmc::waker::Waker::register"],
                Some(Holder::Channel),
            ),
            (
                &[
                    raw,
                    "<T as alloc::slice::<impl [T]>::to_vec_in::ConvertVec>::to_vec",
                    "alloc::str::<impl alloc::borrow::ToOwned for str>::to_owned",
                ],
                Some(Holder::Text),
            ),
            (&[boxed[0], boxed[1], "core::x", "std::thread::scoped::scope"], Some(Holder::Thread)),
            (&[boxed[0], boxed[1], "std::thread::local::LocalKey<T>::with"], Some(Holder::Box)),
            (&["core::ops::function::FnOnce::call_once"], None),
            (&[], None),
        ] {
            assert_eq!(of(functions), expected, "{functions:?}");
        }
    }

    #[test]
    fn a_file_tells_where_a_name_has_no_path() {
        let part = |file| part("new", Some(file));
        let library = "/rustc/0123abc/library/alloc/src/rc.rs";
        assert_eq!(part(library), Some(Part::Whole(Holder::Shared)));
        let other = "/root/.cargo/registry/src/index/hashbrown-0.15.2/src/raw/mod.rs";
        assert_eq!(part(other), Some(Part::Whole(Holder::HashTable)));
        assert_eq!(part("/home/me/alloc/src/rc.rs"), None);
    }
}
