//! Heap events as `tracing` events, through subscribers that do what must not be done in an
//! allocator.

use std::fmt::{self, Write};
use std::fs::{self, File};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use alloc_trace::SpanLayer;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, info, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt as fmt_layer};

use super::Given;
use crate::block::{Block, trail};

/// The target of heap events.
const TARGET: &str = "alloc_trace::heap";

/// A layer that allocates, formats and takes locks in every event, among them one that the program
/// holds while it asks for memory.
#[derive(Default)]
struct Hostile {
    lines: Arc<Mutex<Vec<String>>>,
    of_program: Arc<parking_lot::Mutex<Vec<String>>>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Hostile {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = String::new();
        event.record(&mut Fields(&mut line));
        let parent = event.parent().and_then(|id| context.span(id)).map(|span| span.name());
        let _ = write!(line, "parent={};", parent.unwrap_or("-"));
        self.of_program.lock().push(format!("{:?}", event.metadata()));
        if event.metadata().target() == TARGET {
            assert_eq!(*event.metadata().level(), Level::TRACE);
            self.lines.lock().expect("no panic").push(line);
        }
    }
}

/// Fields as `name=value;`.
struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, "{}={value};", field.name());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{}={value:?};", field.name());
    }
}

/// Four threads that make blocks and `tracing` events with a lock held that the subscriber takes in
/// every event, in spans that close at once. What the subscriber was given is in the file `lines`,
/// an event a line.
///
/// Thread N makes blocks of 81,000 + N bytes in the span `brief`, resizes each to 82,000 + N, and
/// frees it behind the span.
pub(super) fn hostile_subscriber(given: &Given) {
    let hostile = Hostile::default();
    let (lines, of_program) = (Arc::clone(&hostile.lines), Arc::clone(&hostile.of_program));
    tracing_subscriber::registry().with(SpanLayer::new()).with(hostile).init();
    let builder = given.builder().expect("a file");
    let recording = builder.tracing_events(true).start().expect("a recording");
    let threads: Vec<_> = (0..4)
        .map(|number: usize| {
            let of_program = Arc::clone(&of_program);
            thread::spawn(move || {
                for round in 0..100 {
                    let block = info_span!("brief", round).in_scope(|| {
                        let mut held = of_program.lock();
                        held.push(round.to_string());
                        held.truncate(100);
                        Block::new(81_000 + number, 8).resize(82_000 + number)
                    });
                    block.free();
                    info!(round, "of the program");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    // The program runs on while events are given, and frees what the subscriber kept of them.
    while lines.lock().expect("no panic").len() < 1000 {
        of_program.lock().truncate(10);
        thread::yield_now();
    }
    recording.stop();
    let lines = std::mem::take(&mut *lines.lock().expect("no panic"));
    fs::write(given.text("lines").expect("a file"), lines.join("\n")).expect("written");
}

/// Threads old and new that park on `parking_lot`'s locks without a pause while they ask for memory,
/// under a subscriber that takes the same locks.
pub(super) fn parking_lot_everywhere(given: &Given) {
    let hostile = Hostile::default();
    let lock = Arc::clone(&hostile.of_program);
    tracing_subscriber::registry().with(SpanLayer::new()).with(hostile).init();
    let recording =
        given.builder().map(|builder| builder.tracing_events(true).start().expect("a recording"));
    let shared = Arc::new(parking_lot::RwLock::new(Vec::new()));
    let turn = Arc::new((parking_lot::Mutex::new(0usize), parking_lot::Condvar::new()));
    let rounds = given.number("rounds").unwrap_or(100);
    let threads: Vec<_> = (0..6)
        .map(|number: usize| {
            let (lock, shared, turn) = (Arc::clone(&lock), Arc::clone(&shared), Arc::clone(&turn));
            thread::spawn(move || {
                for round in 0..rounds {
                    {
                        let mut held = lock.lock();
                        held.push(format!("{number}: {round}"));
                        held.truncate(50);
                    }
                    if round % 4 == 0 {
                        shared.write().push(vec![number; round]);
                    } else {
                        let _ = shared.read().iter().map(Vec::len).max();
                    }
                    let (next, changed) = &*turn;
                    let mut next = next.lock();
                    while *next % 6 != number {
                        changed.wait(&mut next);
                    }
                    *next += 1;
                    trail(83_000, 1);
                    changed.notify_all();
                    drop(next);
                    // A thread's first time on a lock makes the table of the parked grow.
                    if round % 16 == 0 {
                        let lock = Arc::clone(&lock);
                        let brief = thread::spawn(move || lock.lock().push(round.to_string()));
                        brief.join().expect("no panic");
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    drop(recording);
    println!("done");
}

/// Counts the heap events that a subscriber is given.
#[derive(Default)]
struct Counter(Arc<AtomicU64>);

impl<S: Subscriber> Layer<S> for Counter {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target() == TARGET {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Live events as lines through `tracing-appender`, whose worker frees what each event allocated.
/// When the program asks for nothing more, no more events may come; says how many there were, and
/// how many there were after `stop`. The lines are in the file `lines`.
pub(super) fn appender(given: &Given) {
    let file = File::create(given.text("lines").expect("a file")).expect("created");
    let (writer, guard) = tracing_appender::non_blocking(file);
    let counter = Counter::default();
    let count = Arc::clone(&counter.0);
    tracing_subscriber::registry()
        .with(SpanLayer::new())
        .with(counter)
        .with(fmt_layer::layer().with_ansi(false).with_writer(writer))
        .init();
    let builder = given.builder().expect("a file");
    let recording = builder.tracing_events(true).start().expect("a recording");
    info_span!("work").in_scope(|| trail(84_000, 1000));
    // Rest: nothing came for as long as the emitter looks at the recording fifty times.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut before = u64::MAX;
    loop {
        let now = count.load(Ordering::Relaxed);
        if now == before && now >= 2000 {
            break;
        }
        assert!(Instant::now() < deadline, "no rest after {now} events");
        before = now;
        thread::sleep(Duration::from_millis(500));
    }
    let at_rest = count.load(Ordering::Relaxed);
    recording.stop();
    println!("{at_rest} {}", count.load(Ordering::Relaxed));
    drop(guard);
}

/// The trail of 85,000, 100 blocks, under the filter that `filter` says; says how many heap events
/// the subscriber was given. With `late=1` it is set only after the recording was begun; with `span=1` the
/// trail is made in the span `work`, which closes at once.
pub(super) fn filter(given: &Given) {
    let counter = Counter::default();
    let count = Arc::clone(&counter.0);
    let subscriber = tracing_subscriber::registry()
        .with(SpanLayer::new())
        .with(EnvFilter::new(given.text("filter").expect("a filter")))
        .with(counter);
    let builder = given.builder().expect("a file").tracing_events(true);
    let recording = if given.number("late") == Some(1) {
        let recording = builder.start().expect("a recording");
        subscriber.init();
        recording
    } else {
        subscriber.init();
        builder.start().expect("a recording")
    };
    if given.number("span") == Some(1) {
        info_span!("work").in_scope(|| trail(85_000, 100));
    } else {
        trail(85_000, 100);
    }
    recording.stop();
    println!("{}", count.load(Ordering::Relaxed));
}
