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
}

impl Workload {
    /// Makes the machine ready for it.
    pub fn warm_up(&self) {
        // The largest of each take that much or a little less.
        if LIVE_SETS.iter().chain(LIVE_SETS_ALONE).any(|set| set.name == self.name) {
            warm_up::touch_and_release_huge(1 << 30);
        } else if self.name == PUSH_TO_256_MIB {
            warm_up::touch_and_release_huge(2 << 30);
        } else {
            warm_up::touch_and_release();
        }
    }

    /// Whether it makes no difference under which allocator it is run.
    #[must_use]
    pub fn is_without_allocator(&self) -> bool {
        LIVE_SETS_ALONE.iter().any(|alone| alone.name == self.name)
    }
}

const PUSH_TO_256_MIB: &str = "push to 256 MiB";

const ANY: &[usize] = &[1, 2, 8];

/// Those that are compared.
pub const ALL: &[Workload] = &[
    Workload { name: "pairs 16 B", operation: "pair", threads: ANY, run: blocks::pairs::<16> },
    Workload { name: "pairs 64 B", operation: "pair", threads: ANY, run: blocks::pairs::<64> },
    Workload { name: "pairs 256 B", operation: "pair", threads: ANY, run: blocks::pairs::<256> },
    Workload { name: "pairs 1024 B", operation: "pair", threads: ANY, run: blocks::pairs::<1024> },
    Workload { name: "LIFO 1000, 32 B", operation: "pair", threads: ANY, run: blocks::lifo::<32> },
    Workload {
        name: "LIFO 1000, 256 B",
        operation: "pair",
        threads: ANY,
        run: blocks::lifo::<256>,
    },
    Workload { name: "random, 10 k live", operation: "pair", threads: ANY, run: blocks::random },
    Workload { name: "remote 64 B", operation: "block", threads: &[2, 8], run: remote::one_size },
    Workload { name: "remote mixed", operation: "block", threads: &[2, 8], run: remote::mixed },
    Workload { name: "push to 1 MiB", operation: "Vec", threads: ANY, run: growth::to_1_mib },
    Workload { name: PUSH_TO_256_MIB, operation: "Vec", threads: ANY, run: growth::to_256_mib },
    Workload {
        name: "64 KiB-4 MiB, touched",
        operation: "pair",
        threads: ANY,
        run: blocks::large_touched,
    },
    Workload { name: "64 KiB-4 MiB", operation: "pair", threads: ANY, run: blocks::large },
    Workload {
        name: "HashMap<String>",
        operation: "step",
        threads: ANY,
        run: collections::hash_map,
    },
    Workload { name: "BTreeMap", operation: "step", threads: ANY, run: collections::btree_map },
    Workload { name: "syn parse", operation: "file", threads: ANY, run: parse::rust },
    Workload { name: "JSON parse", operation: "document", threads: ANY, run: parse::json },
    Workload { name: "tokio server", operation: "request", threads: ANY, run: server::requests },
    Workload { name: "thread churn", operation: "thread", threads: ANY, run: threads::churn },
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
    live_set("live 10^3, the loop alone", live_set::alone::<1_000>),
    live_set("live 10^4, the loop alone", live_set::alone::<10_000>),
    live_set("live 10^5, the loop alone", live_set::alone::<100_000>),
    live_set("live 10^6, the loop alone", live_set::alone::<1_000_000>),
    live_set("live 10^7, the loop alone", live_set::alone::<10_000_000>),
];

const fn live_set(name: &'static str, run: fn(usize) -> Raced) -> Workload {
    Workload { name, operation: "pair", threads: &[1], run }
}

/// Run once, when all is done: nothing may have been tuned by them.
pub const KEPT_ASIDE: &[Workload] = &[
    Workload {
        name: "expressions",
        operation: "derivation",
        threads: ANY,
        run: kept_aside::expressions,
    },
    Workload { name: "text", operation: "line", threads: ANY, run: kept_aside::text },
    Workload {
        name: "shared lists",
        operation: "version",
        threads: ANY,
        run: kept_aside::shared_lists,
    },
    Workload {
        name: "changing owners",
        operation: "pair",
        threads: ANY,
        run: kept_aside::changing_owners,
    },
];

/// The workload of a name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Workload> {
    let all = [ALL, LIVE_SETS, LIVE_SETS_ALONE, KEPT_ASIDE];
    all.into_iter().flatten().find(|workload| workload.name == name)
}
