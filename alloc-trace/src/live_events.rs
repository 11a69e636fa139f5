//! Records as `tracing` events.
//!
//! A thread of the recorder's own follows the recording while it is written and emits one `tracing`
//! event a heap event. So no subscriber ever runs inside an allocation. The thread's own heap
//! events are in the recording too, marked as the recorder's: neither they nor the frees of what it
//! allocated, by whichever thread, are emitted, and a subscriber that hands its lines to another
//! thread comes to rest.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use alloc_trace_format::{Event, EventKind, Follower, NodeId, Record, SpanId, Stamp, ThreadId};
use parking_lot::{Condvar, Mutex};
use tracing::dispatcher::{self, Dispatch};
use tracing::field;
use tracing::span::Id;
use tracing::subscriber::NoSubscriber;

use crate::recorder;
#[cfg(feature = "span-layer")]
use crate::{held_spans, stand_in::StandIn};

/// How often the recording is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// How many records of a stream are taken at a time: what waits longer waits in the file.
const BATCH: usize = 16 << 10;

/// Names a call site, from the return addresses of the backtrace, the innermost first.
pub(crate) type SiteNames = Box<dyn FnMut(&[u64]) -> String + Send>;

/// The thread that emits events.
#[derive(Debug)]
pub(crate) struct LiveEvents {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the emitting thread is told.
#[derive(Debug, Default)]
struct Shared {
    orders: Mutex<Orders>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Orders {
    /// Whether the thread has been marked as the recorder's.
    marked: bool,
    /// The recording to follow, once it has begun.
    follow: Option<Follower>,
    /// Whether the recording has been stopped.
    stopped: bool,
}

impl LiveEvents {
    /// Starts the thread. It waits for a recording: its making is not among what is recorded.
    ///
    /// Returns when the thread is marked as the recorder's own.
    pub(crate) fn spawn(site_names: Option<SiteNames>) -> io::Result<Self> {
        let dispatch = dispatcher::get_default(Dispatch::clone);
        let shared = Arc::new(Shared::default());
        let orders = Arc::clone(&shared);
        let thread = thread::Builder::new().name("alloc-trace".into()).spawn(move || {
            recorder::mark_thread_internal();
            orders.say_marked();
            let Some(follower) = orders.wait_for_recording() else { return };
            let emitter = Emitter::new(site_names);
            // A subscriber that is set as the global one later is found at each event.
            if dispatch.is::<NoSubscriber>() {
                emitter.run(follower, &orders);
            } else {
                dispatcher::with_default(&dispatch, || emitter.run(follower, &orders));
            }
        })?;
        #[cfg(feature = "span-layer")]
        held_spans::begin();
        // A thread that met the recording before it is marked would be taken for the program's, and
        // each event that it emits would bring others.
        shared.wait_for_mark();
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Follows the recording at `path` from its beginning.
    pub(crate) fn follow(&self, path: &Path) -> io::Result<()> {
        let follower = Follower::open(path).map_err(io::Error::other)?;
        self.shared.orders.lock().follow = Some(follower);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Waits until every event of a recording that was stopped has been emitted.
    fn finish(&mut self) {
        self.shared.orders.lock().stopped = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A subscriber that panicked has said so on standard error.
            let _ = thread.join();
        }
        #[cfg(feature = "span-layer")]
        held_spans::end();
    }

    /// Leaves the thread to itself: in a forked child there is none.
    pub(crate) fn forget(&mut self) {
        self.thread = None;
    }
}

impl Drop for LiveEvents {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.finish();
        }
    }
}

impl Shared {
    fn say_marked(&self) {
        self.orders.lock().marked = true;
        self.changed.notify_all();
    }

    fn wait_for_mark(&self) {
        let mut orders = self.orders.lock();
        while !orders.marked {
            self.changed.wait(&mut orders);
        }
    }

    /// Waits for a recording; `None` where there will be none.
    fn wait_for_recording(&self) -> Option<Follower> {
        let mut orders = self.orders.lock();
        while orders.follow.is_none() && !orders.stopped {
            self.changed.wait(&mut orders);
        }
        orders.follow.take()
    }

    /// Waits for an interval, or until the recording has been stopped; whether it has.
    fn wait_for_stop(&self) -> bool {
        let mut orders = self.orders.lock();
        if !orders.stopped {
            self.changed.wait_for(&mut orders, INTERVAL);
        }
        orders.stopped
    }
}

/// What must be known to describe an event.
struct Emitter {
    site_names: Option<SiteNames>,
    /// Records that were read and whose turn may not have come.
    waiting: Vec<(Stamp, Record)>,
    threads: HashMap<ThreadId, Thread>,
    spans: HashMap<SpanId, Arc<str>>,
    nodes: HashMap<NodeId, (NodeId, u64)>,
    modules: Vec<(u64, u64, u64, Arc<str>)>,
    sites: HashMap<NodeId, Arc<str>>,
    /// Live blocks that the recorder's own threads allocated, and when they did.
    internal_blocks: HashMap<u64, Stamp>,
    #[cfg(feature = "span-layer")]
    stand_in: StandIn,
}

#[derive(Default)]
struct Thread {
    internal: bool,
    entered: Vec<SpanId>,
}

impl Emitter {
    fn new(site_names: Option<SiteNames>) -> Self {
        Self {
            site_names,
            waiting: Vec::new(),
            threads: HashMap::new(),
            spans: HashMap::new(),
            nodes: HashMap::new(),
            modules: Vec::new(),
            sites: HashMap::new(),
            internal_blocks: HashMap::new(),
            #[cfg(feature = "span-layer")]
            stand_in: StandIn::default(),
        }
    }

    fn run(mut self, mut follower: Follower, orders: &Shared) {
        // What was stamped before the previous look has been written by this one, unless a thread
        // was stopped in the middle of a hook for a whole interval.
        let mut previous = 0;
        #[cfg(feature = "span-layer")]
        let mut emitted = 0;
        loop {
            let stopped = orders.wait_for_stop();
            let now = recorder::stamp();
            let mut last_stamp = 0;
            let polled = follower.poll(BATCH, |record| {
                let stamp = match &record {
                    Record::Event(event) => Some(event.stamp),
                    other => other.stamp(),
                };
                // What states no time follows what it stands behind. A poll reads one stream after
                // the other: the last time of one says nothing of the next.
                last_stamp = stamp.unwrap_or(last_stamp);
                match record {
                    // Wanted by the events of other threads, whatever their stamps.
                    Record::Node(node) => {
                        self.nodes.insert(node.id, (node.parent, node.address));
                    }
                    // Known before any of the thread's events is looked at.
                    Record::ThreadStart(start) if start.internal => {
                        self.threads.entry(start.thread).or_default().internal = true;
                    }
                    record => self.waiting.push((last_stamp, record)),
                }
            });
            // A file that cannot be read any more has nothing more to tell.
            let Ok(polled) = polled else { return };
            let everything = if stopped { Stamp::MAX } else { previous };
            let horizon = everything.min(polled.read_until.unwrap_or(Stamp::MAX));
            self.emit_until(horizon);
            // An event that was late in the last round has its span still.
            #[cfg(feature = "span-layer")]
            held_spans::release(std::mem::replace(&mut emitted, horizon));
            if stopped && polled.records == 0 {
                self.emit_until(Stamp::MAX);
                return;
            }
            previous = now;
        }
    }

    /// Emits what waits and was stamped by `horizon`, in order.
    fn emit_until(&mut self, horizon: Stamp) {
        self.waiting.sort_by_key(|(stamp, record)| (*stamp, rank(record)));
        let due = self.waiting.partition_point(|(stamp, _)| *stamp <= horizon);
        let rest = self.waiting.split_off(due);
        for (_, record) in std::mem::replace(&mut self.waiting, rest) {
            self.take(record);
        }
        #[cfg(feature = "span-layer")]
        self.stand_in.leave();
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Event(event) => self.take_event(&event),
            Record::ThreadExit { thread, .. } => {
                self.threads.remove(&thread);
            }
            Record::Module(module) => {
                let name = module.path.rsplit('/').next().unwrap_or_default();
                self.modules.push((module.start, module.end, module.bias, name.into()));
            }
            Record::Span(span) => {
                self.spans.insert(span.id, Arc::from(span.name));
            }
            Record::SpanEnter { thread, span, .. } => {
                self.threads.entry(thread).or_default().entered.push(span);
            }
            Record::SpanExit { thread, span, .. } => {
                let entered = &mut self.threads.entry(thread).or_default().entered;
                if span == SpanId::EVERY {
                    entered.clear();
                } else if let Some(index) = entered.iter().rposition(|&id| id == span) {
                    entered.remove(index);
                }
            }
            Record::SpanClose { span, .. } => {
                self.spans.remove(&span);
            }
            _ => {}
        }
    }

    fn take_event(&mut self, event: &Event) {
        let thread = self.threads.entry(event.thread).or_default();
        let (left, arrived) = match event.kind {
            EventKind::Free => (event.address, 0),
            EventKind::Realloc => (event.old_address, event.address),
            EventKind::Alloc | EventKind::AllocZeroed => (0, event.address),
        };
        let thread_is_internal = thread.internal;
        let spans = thread.entered.clone();
        let moved = left != 0 && !event.failed && self.leaves_internal(left, event.begin_stamp);
        if thread_is_internal || moved {
            if arrived != 0 {
                // Still the recorder's, whoever moved it.
                self.internal_blocks.insert(arrived, event.stamp);
            }
            return;
        }
        // A reallocation by the recorder that has not ended may have released it.
        self.internal_blocks.remove(&arrived);
        self.emit(event, &spans);
    }

    /// Whether the block that is released at an address is the recorder's; it is not from then on.
    ///
    /// A reallocation comes when it has ended, and stands for a release since it `began`: by then the
    /// recorder may have been given the same address again.
    fn leaves_internal(&mut self, address: u64, began: Stamp) -> bool {
        let is_older = self.internal_blocks.get(&address).is_some_and(|&since| since <= began);
        is_older && self.internal_blocks.remove(&address).is_some()
    }

    /// Emits an event that happened in these spans, the outermost first.
    fn emit(&mut self, event: &Event, spans: &[SpanId]) {
        // The callsite is asked first: naming the site of an event that nobody wants is work wasted.
        if !self.is_wanted(spans) {
            return;
        }
        let span = spans.last().copied();
        let site = self.site(event.node);
        let span_name = span.and_then(|span| self.spans.get(&span)).map(|name| &**name);
        let parent = span.map(|span| Id::from_u64(span.0));
        let realloc = event.kind == EventKind::Realloc;
        let (address, size) =
            if realloc { (event.old_address, event.old_size) } else { (event.address, event.size) };
        tracing::event!(
            target: "alloc_trace::heap",
            parent: parent,
            tracing::Level::TRACE,
            kind = event.kind.name(),
            addr = %Hex(address),
            size,
            align = event.align(),
            new_addr = realloc.then(|| field::display(Hex(event.address))),
            new_size = realloc.then_some(event.size),
            thread = event.thread.0,
            span = span_name,
            site = &*site,
        );
    }

    /// Whether the subscriber wants an event that happened in these spans. One that goes by the spans of
    /// the calling thread is asked in them, if it wants no such events outside of them.
    #[cfg(feature = "span-layer")]
    fn is_wanted(&mut self, spans: &[SpanId]) -> bool {
        let is_enabled = || tracing::enabled!(target: "alloc_trace::heap", tracing::Level::TRACE);
        if self.stand_in.is_in(spans) {
            return is_enabled();
        }
        self.stand_in.leave();
        is_enabled() || (self.stand_in.enter(spans) && is_enabled())
    }

    /// Whether the subscriber wants an event.
    #[cfg(not(feature = "span-layer"))]
    fn is_wanted(&mut self, _spans: &[SpanId]) -> bool {
        tracing::enabled!(target: "alloc_trace::heap", tracing::Level::TRACE)
    }

    /// The name of a call site.
    fn site(&mut self, node: NodeId) -> Arc<str> {
        if let Some(site) = self.sites.get(&node) {
            return Arc::clone(site);
        }
        let mut addresses = Vec::new();
        let mut next = node;
        while let Some(&(parent, address)) = self.nodes.get(&next) {
            addresses.push(address);
            next = parent;
        }
        let site: Arc<str> = match &mut self.site_names {
            Some(name) => name(&addresses).into(),
            None => self.place(&addresses).into(),
        };
        self.sites.insert(node, Arc::clone(&site));
        site
    }

    /// Where the allocator was called from, as `module+offset`, which `addr2line` takes.
    fn place(&self, addresses: &[u64]) -> String {
        // The innermost frame is the allocator's own shim.
        let Some(&address) = addresses.get(1).or(addresses.first()) else {
            return "[no backtrace]".into();
        };
        let module = self.modules.iter().find(|(start, end, ..)| (*start..*end).contains(&address));
        match module {
            Some((_, _, bias, name)) => format!("{name}+{:#x}", address.wrapping_sub(*bias)),
            None => format!("{address:#x}"),
        }
    }
}

/// An address as every output has it.
struct Hex(u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// At one stamp releases come first.
fn rank(record: &Record) -> u8 {
    match record {
        Record::Event(event) if event.kind == EventKind::Free => 0,
        Record::Event(_) => 2,
        _ => 1,
    }
}
