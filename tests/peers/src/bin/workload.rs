//! Runs one workload under the allocator that this was built with, and prints what it measured.
//!
//! `workload NAME THREADS`, or `workload burst`; the driver is `allocators`.

use std::process::ExitCode;

use peers::burst::Burst;
use peers::measured::{Measured, Usage};
use peers::workloads;

#[cfg(feature = "core-alloc")]
#[global_allocator]
static ALLOCATOR: alloc_core::CoreAlloc = alloc_core::CoreAlloc::new();

#[cfg(any(feature = "mimalloc3", feature = "mimalloc2"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "snmalloc")]
#[global_allocator]
static ALLOCATOR: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(feature = "rpmalloc")]
#[global_allocator]
static ALLOCATOR: rpmalloc::RpMalloc = rpmalloc::RpMalloc;

#[cfg(feature = "tcmalloc")]
#[global_allocator]
static ALLOCATOR: tcmalloc_better::TCMalloc = tcmalloc_better::TCMalloc;

#[cfg(feature = "rusty-alloc")]
#[global_allocator]
static ALLOCATOR: rusty_alloc_api::RustyAlloc = rusty_alloc_api::RustyAlloc;

#[cfg(feature = "stoolap-jemalloc")]
#[global_allocator]
static ALLOCATOR: stoolap_jemalloc::Jemalloc = stoolap_jemalloc::Jemalloc::new();

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|name| name == "burst") {
        println!("{}", serde_json::to_string(&Burst::run()).expect("plain numbers"));
        return ExitCode::SUCCESS;
    }
    let name = arguments.next();
    let threads = arguments.next().and_then(|threads| threads.parse().ok());
    let (Some(name), Some(threads)) = (name, threads) else {
        eprintln!("usage: workload NAME THREADS");
        return ExitCode::from(2);
    };
    let workload = match workloads::named(&name) {
        Ok(workload) => workload,
        Err(error) => {
            eprintln!("workload: {error}");
            return ExitCode::from(2);
        }
    };
    let before = Usage::now();
    let raced = (workload.run)(threads);
    let after = Usage::now();
    let measured = Measured {
        operations: raced.operations,
        wall_ns: raced.wall_ns,
        cpu_ns: after.cpu_ns - before.cpu_ns,
        peak_resident_bytes: after.peak_resident_bytes,
        minor_faults: after.minor_faults - before.minor_faults,
        checksum: raced.checksum,
    };
    println!("{}", serde_json::to_string(&measured).expect("plain numbers"));
    ExitCode::SUCCESS
}
