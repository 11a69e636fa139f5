//! The workloads: the same work under every allocator, each with a checksum of what it came to.

mod blocks;
mod collections;
mod growth;
mod kept_aside;
mod live_set;
mod parse;
pub mod race;
mod remote;
mod server;
mod sources;
mod threads;

use self::race::Raced;
use crate::warm_up;

/// A workload.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// What tables call it.
    pub name: &'static str,
    /// What one operation is.
    pub operation: &'static str,
    /// The numbers of threads it is run with.
    pub threads: &'static [usize],
    /// Runs it.
    pub run: fn(usize) -> Raced,
    /// How many bytes of huge pages are warm when it begins: as much as it takes of them, or a little more.
    warm_huge_bytes: usize,
    /// Whether it makes no difference under which allocator it is run.
    pub without_allocator: bool,
}

impl Workload {
    /// Operations, on so many threads, that take no more huge pages than most.
    const fn new(
        name: &'static str,
        operation: &'static str,
        threads: &'static [usize],
        run: fn(usize) -> Raced,
    ) -> Self {
        let warm_huge_bytes = warm_up::HUGE_BYTES;
        Self { name, operation, threads, run, warm_huge_bytes, without_allocator: false }
    }

    /// The same, with so many bytes of warm huge pages.
    const fn with_warm_huge_bytes(self, warm_huge_bytes: usize) -> Self {
        Self { warm_huge_bytes, ..self }
    }

    /// The same, as one that allocates nothing that is measured.
    const fn without_allocator(self) -> Self {
        Self { without_allocator: true, ..self }
    }

    /// Makes the machine ready for it.
    pub fn warm_up(&self) {
        warm_up::touch_and_release_huge(self.warm_huge_bytes);
    }
}

const ANY: &[usize] = &[1, 2, 8];

/// Those that are compared.
pub const ALL: &[Workload] = &[
    Workload::new("pairs 16 B", "pair", ANY, blocks::pairs::<16>),
    Workload::new("pairs 64 B", "pair", ANY, blocks::pairs::<64>),
    Workload::new("pairs 256 B", "pair", ANY, blocks::pairs::<256>),
    Workload::new("pairs 1024 B", "pair", ANY, blocks::pairs::<1024>),
    Workload::new("LIFO 1000, 32 B", "pair", ANY, blocks::lifo::<32>),
    Workload::new("LIFO 1000, 256 B", "pair", ANY, blocks::lifo::<256>),
    Workload::new("random, 10 k live", "pair", ANY, blocks::random),
    Workload::new("remote 64 B", "block", &[2, 8], remote::one_size),
    Workload::new("remote mixed", "block", &[2, 8], remote::mixed),
    Workload::new("push to 1 MiB", "Vec", ANY, growth::to_1_mib),
    Workload::new("push to 256 MiB", "Vec", ANY, growth::to_256_mib).with_warm_huge_bytes(2 << 30),
    Workload::new("64 KiB-4 MiB, touched", "pair", ANY, blocks::large_touched),
    Workload::new("64 KiB-4 MiB", "pair", ANY, blocks::large),
    Workload::new("HashMap<String>", "step", ANY, collections::hash_map),
    Workload::new("BTreeMap", "step", ANY, collections::btree_map),
    Workload::new("syn parse", "file", ANY, parse::rust),
    Workload::new("JSON parse", "document", ANY, parse::json),
    Workload::new("tokio server", "request", ANY, server::requests),
    Workload::new("thread churn", "thread", ANY, threads::churn),
];

/// How the time of an operation grows with the number of live blocks.
pub const LIVE_SETS: &[Workload] = &[
    live_set("live 10^3", live_set::replace::<1_000>),
    live_set("live 10^4", live_set::replace::<10_000>),
    live_set("live 10^5", live_set::replace::<100_000>),
    live_set("live 10^6", live_set::replace::<1_000_000>),
    live_set("live 10^7", live_set::replace::<10_000_000>),
];

/// The same loops without an allocator, in the same order.
pub const LIVE_SETS_ALONE: &[Workload] = &[
    live_set("live 10^3, the loop alone", live_set::alone::<1_000>).without_allocator(),
    live_set("live 10^4, the loop alone", live_set::alone::<10_000>).without_allocator(),
    live_set("live 10^5, the loop alone", live_set::alone::<100_000>).without_allocator(),
    live_set("live 10^6, the loop alone", live_set::alone::<1_000_000>).without_allocator(),
    live_set("live 10^7, the loop alone", live_set::alone::<10_000_000>).without_allocator(),
];

const fn live_set(name: &'static str, run: fn(usize) -> Raced) -> Workload {
    Workload::new(name, "pair", &[1], run).with_warm_huge_bytes(1 << 30)
}

/// Run once, when all is done: nothing may have been tuned by them.
pub const KEPT_ASIDE: &[Workload] = &[
    Workload::new("expressions", "derivation", ANY, kept_aside::expressions),
    Workload::new("text", "line", ANY, kept_aside::text),
    Workload::new("shared lists", "version", ANY, kept_aside::shared_lists),
    Workload::new("changing owners", "pair", ANY, kept_aside::changing_owners),
];

/// The workload of a name.
///
/// # Errors
///
/// If none has it; says which there are.
pub fn named(name: &str) -> Result<&'static Workload, String> {
    let all = || [ALL, LIVE_SETS, LIVE_SETS_ALONE, KEPT_ASIDE].into_iter().flatten();
    all().find(|workload| workload.name == name).ok_or_else(|| {
        let names: Vec<_> = all().map(|workload| workload.name).collect();
        format!("no workload is called {name:?}; there are: {}", names.join("; "))
    })
}
