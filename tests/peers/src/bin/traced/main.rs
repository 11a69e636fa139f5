//! Runs one workload under the profiler that this was built with or is run by: `traced WORKLOAD SIZE`.
//! Prints one line of JSON. The driver is `profilers`.

mod churn;
mod parse;
mod remote;

#[cfg(feature = "count")]
mod counting;

use std::process::ExitCode;

use peers::measured::Usage;
use peers::traced::Traced;

#[cfg(feature = "trace")]
#[global_allocator]
static ALLOCATOR: alloc_trace::TraceAlloc<std::alloc::System> =
    alloc_trace::TraceAlloc::new(std::alloc::System);

#[cfg(feature = "dhat-rs")]
#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

#[cfg(feature = "count")]
#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

fn main() -> ExitCode {
    #[cfg(feature = "dhat-rs")]
    let profiler = dhat::Profiler::builder().file_name("recording").build();
    let mut arguments = std::env::args().skip(1);
    let workload = arguments.next().unwrap_or_default();
    let size = arguments.next().and_then(|size| size.parse().ok()).unwrap_or(0);
    let checksum = match workload.as_str() {
        "churn" => churn::run(size, 8),
        "steady churn" => churn::run(size, 64),
        "one thread" => remote::own(size),
        "two threads" => remote::remote(size),
        "syn parse" => parse::run(size),
        _ => {
            eprintln!(
                "usage: traced churn|\"steady churn\"|\"one thread\"|\"two threads\"|\"syn parse\" SIZE"
            );
            return ExitCode::from(2);
        }
    };
    #[cfg(feature = "count")]
    let events = Some(counting::events());
    #[cfg(not(feature = "count"))]
    let events = None;
    let peak_resident_bytes = Usage::now().peak_resident_bytes;
    let traced = Traced { events, peak_resident_bytes, checksum };
    println!("{}", serde_json::to_string(&traced).expect("plain numbers"));
    #[cfg(feature = "dhat-rs")]
    drop(profiler);
    ExitCode::SUCCESS
}
