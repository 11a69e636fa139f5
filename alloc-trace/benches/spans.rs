//! What `SpanLayer` adds to a span that is made, entered, left and closed. Prints nanoseconds, on standard
//! error. Arguments: the number of spans (1,000,000), and `without` for a subscriber that has no such layer.
//!
//! Run it with and without the layer, and with `ALLOC_TRACE=FILE`, in turn, and compare.

use std::alloc::System;
use std::time::Instant;

use alloc_trace::{SpanLayer, TraceAlloc};
use tracing_subscriber::layer::{Identity, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

#[global_allocator]
static ALLOCATOR: TraceAlloc<System> = TraceAlloc::new(System);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let spans = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    if arguments.iter().any(|argument| argument == "without") {
        run(Identity::new(), spans);
    } else {
        run(SpanLayer::new(), spans);
    }
}

fn run(layer: impl Layer<Registry> + Send + Sync, spans: u64) {
    tracing::subscriber::with_default(Registry::default().with(layer), || {
        let _outer = tracing::info_span!("outer").entered();
        let begin = Instant::now();
        for number in 0..spans {
            let _span = tracing::info_span!("a span", number).entered();
        }
        let elapsed = begin.elapsed();
        eprintln!("{:.1} ns a span", elapsed.as_nanos() as f64 / spans as f64);
    });
}
