//! The allocators that are compared.

/// An allocator, and the feature that makes it the workload's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocator {
    /// What tables call it; also the name of its build.
    pub name: &'static str,
    /// The feature of this package; none for the system's.
    pub feature: Option<&'static str>,
}

/// Ours.
pub const OURS: &str = "CoreAlloc";

/// The one whose memory is the measure.
pub const LEAN: &str = "snmalloc";

/// All of them, ours first.
pub const ALL: [Allocator; 10] = [
    Allocator { name: OURS, feature: Some("core-alloc") },
    Allocator { name: "rusty_alloc", feature: Some("rusty-alloc") },
    Allocator { name: "mimalloc 3", feature: Some("mimalloc3") },
    Allocator { name: "mimalloc 2", feature: Some("mimalloc2") },
    Allocator { name: LEAN, feature: Some("snmalloc") },
    Allocator { name: "jemalloc", feature: Some("jemalloc") },
    Allocator { name: "rpmalloc", feature: Some("rpmalloc") },
    Allocator { name: "tcmalloc", feature: Some("tcmalloc") },
    Allocator { name: "stoolap", feature: Some("stoolap-jemalloc") },
    Allocator { name: "glibc", feature: None },
];

impl Allocator {
    /// The allocator of a name, written in any case and with or without its spaces.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let plain = |name: &str| name.to_lowercase().replace([' ', '-', '_'], "");
        ALL.into_iter().find(|allocator| plain(allocator.name) == plain(name))
    }
}
