//! A [`Filter`] at work on one recording: which of its events it picks.
//!
//! What becomes of a block is not known when it is obtained. Where the filter asks for that, a pass
//! over the recording comes first. What was live at a time is no more than what is live: that pass leaves the numbers
//! of its requests. What lived so long can be any part of all: it leaves one bit a request, of which only the last
//! ones [stay in memory](crate::request_bits).

use std::io;
use std::sync::Arc;

use alloc_trace_format::{Clock, Event, EventKind, ReadError, Recording, Stamp, Step};

use crate::definitions::Definitions;
use crate::error::AnalysisError;
use crate::filter::Filter;
use crate::live::LiveBlocks;
use crate::options::Options;
use crate::request_bits::{BitsInOrder, RequestBits};
use crate::sites::{SiteIndex, Sites};
use crate::spans::Spans;
use crate::times::Times;

/// What a filter says of an event by itself. A free is picked with the block that it releases, which the
/// [ledger](crate::ledger) knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picked {
    /// A request that it picks. Without a filter every event is picked.
    pub(crate) picked: bool,
    /// Whether the event itself is as the filter wants its requests; of a free, where what becomes of blocks
    /// decides, whether its block is.
    pub(crate) listed: bool,
}

impl Picked {
    /// Without a filter.
    pub(crate) const ALL: Self = Self { picked: true, listed: true };
}

/// The state of a filter on its way through a recording.
#[derive(Debug)]
pub(crate) struct Selection {
    filter: Arc<Filter>,
    times: Times,
    clock: Clock,
    threads: Vec<bool>,
    sites: Vec<bool>,
    /// Of each path of spans so far, by its number: whether the filter asks for one of its spans.
    in_spans: Vec<bool>,
    future: Option<Future>,
    /// Where events are picked, each by itself, and not blocks: those that are live and as it wants by what
    /// becomes of them.
    blocks: Option<LiveBlocks<()>>,
}

impl Selection {
    pub(crate) fn new(
        options: &Options,
        times: Times,
        recording: &Recording,
        definitions: &Definitions,
        sites: &Sites,
    ) -> Result<Self, AnalysisError> {
        let filter = &options.filter;
        let threads = definitions.threads.iter();
        let threads = threads
            .map(|thread| filter.picks_thread(thread.id.0, thread.name.as_deref()))
            .collect();
        let sites = (0..sites.len() as SiteIndex).filter_map(|index| sites.get(index));
        let sites = sites.map(|site| filter.picks_site(site)).collect();
        let future = if filter.asks_for_the_future() {
            Some(Future::find(filter, times, recording, definitions.last_stamp)?)
        } else {
            None
        };
        Ok(Self {
            filter: Arc::clone(filter),
            times,
            clock: *recording.clock(),
            threads,
            sites,
            in_spans: Vec::new(),
            future,
            blocks: options.of_events.then(|| LiveBlocks::new(())),
        })
    }

    /// The recording is read from the beginning again.
    pub(crate) fn rewind(&mut self) {
        if let Some(future) = &mut self.future {
            future.rewind();
        }
        self.blocks = self.blocks.take().map(|_| LiveBlocks::new(()));
    }

    /// What the filter says of the next event; every event must be asked for, in order.
    pub(crate) fn judge(
        &mut self,
        event: &Event,
        thread: usize,
        site: SiteIndex,
        internal: bool,
        spans: &Spans,
    ) -> Result<Picked, ReadError> {
        let of_obtained = match &mut self.future {
            Some(future) => future.next(event)?,
            None => true,
        };
        let is_free = event.kind == EventKind::Free;
        let own = !internal && self.picks(event, thread, site, spans);
        let of_released = self.follow(event, of_obtained);
        Ok(Picked {
            picked: own && !is_free && of_obtained,
            listed: own && if is_free { of_released } else { of_obtained },
        })
    }

    /// Where blocks have to be known to list events: whether the one that an event releases is as the filter
    /// wants, given whether the one that it obtains is.
    fn follow(&mut self, event: &Event, of_obtained: bool) -> bool {
        let (Some(blocks), Some(_)) = (&mut self.blocks, &self.future) else { return true };
        if event.failed {
            return false;
        }
        let released = match event.kind {
            EventKind::Free => blocks.remove(event.address),
            EventKind::Realloc => blocks.remove(event.old_address),
            EventKind::Alloc | EventKind::AllocZeroed => None,
        };
        if event.kind != EventKind::Free {
            if of_obtained {
                blocks.insert(event.address, ());
            } else {
                blocks.remove(event.address);
            }
        }
        released.is_some()
    }

    /// Whether an event itself is as the filter wants, whatever becomes of its block.
    fn picks(&mut self, event: &Event, thread: usize, site: SiteIndex, spans: &Spans) -> bool {
        let in_time = || {
            if self.times.from_ns.is_none() && self.times.to_ns.is_none() {
                return true;
            }
            let ns = self.clock.ns(event.stamp);
            self.times.from_ns.is_none_or(|from| from <= ns)
                && self.times.to_ns.is_none_or(|to| ns <= to)
        };
        self.filter.picks_kind(event.kind)
            && self.filter.picks_size(event.size)
            && self.threads.get(thread).copied().unwrap_or_default()
            && self.sites.get(site as usize).copied().unwrap_or_default()
            && in_time()
            && (!self.filter.has_spans()
                || spans.current(thread).is_some_and(|span| self.is_in_span(span.path, spans)))
    }

    /// Whether a span of a path is one that the filter asks for.
    fn is_in_span(&mut self, path: u32, spans: &Spans) -> bool {
        // Outer paths have lower numbers.
        for path in self.in_spans.len() as u32..=path {
            let outer = spans.around(path).and_then(|around| self.in_spans.get(around as usize));
            let own = || spans.kind_of(path).is_some_and(|kind| self.filter.picks_span(&kind.name));
            let is_in = outer.copied().unwrap_or_default() || own();
            self.in_spans.push(is_in);
        }
        self.in_spans.get(path as usize).copied().unwrap_or_default()
    }
}

/// Which requests are picked by what became of their blocks: successful ones, in their order.
#[derive(Debug)]
enum Future {
    /// Any of them.
    Bits(BitsInOrder),
    /// No more than were live at a time.
    Numbers {
        /// Their numbers from 0, the smallest first.
        numbers: Vec<u64>,
        /// How many of them have been asked for.
        passed: usize,
        /// How many successful requests have been asked for.
        requests: u64,
    },
}

impl Future {
    fn find(
        filter: &Filter,
        times: Times,
        recording: &Recording,
        end: Stamp,
    ) -> Result<Self, ReadError> {
        let clock = recording.clock();
        let mut numbers = Vec::new();
        let mut bits = RequestBits::new();
        let mut live: LiveBlocks<(u64, Stamp)> = LiveBlocks::new((0, 0));
        let mut requests = 0_u64;
        let mut decide = |(request, obtained): (u64, Stamp), released: Option<Stamp>| {
            let obtained_ns = clock.ns(obtained);
            let released_ns = clock.ns(released.unwrap_or(end));
            if !filter.picks_lifetime(released_ns.saturating_sub(obtained_ns)) {
                return Ok(());
            }
            match times.live_at_ns {
                None => return bits.set(request).map_err(temporary_file),
                Some(at) if obtained_ns <= at && (released.is_none() || at < released_ns) => {
                    numbers.push(request);
                }
                Some(_) => {}
            }
            Ok(())
        };
        let mut records = recording.merged_in_brief();
        loop {
            match records.advance()? {
                Step::Event => {}
                Step::Other(_) => continue,
                Step::End => break,
            }
            let event = *records.event();
            if event.failed {
                continue;
            }
            let released = match event.kind {
                EventKind::Free => live.remove(event.address),
                EventKind::Realloc => live.remove(event.old_address),
                EventKind::Alloc | EventKind::AllocZeroed => None,
            };
            if let Some(block) = released {
                decide(block, Some(event.stamp))?;
            }
            if event.kind != EventKind::Free {
                let block = (requests, event.stamp);
                requests += 1;
                if let Some(old) = live.insert(event.address, block) {
                    decide(old, Some(event.stamp))?;
                }
            }
        }
        for (_, block) in live.iter() {
            decide(*block, None)?;
        }
        if times.live_at_ns.is_none() {
            return bits.read().map(Self::Bits).map_err(temporary_file);
        }
        numbers.sort_unstable();
        Ok(Self::Numbers { numbers, passed: 0, requests: 0 })
    }

    /// Whether the block that the next event obtains is picked; of a free and of a failed request it is not.
    fn next(&mut self, event: &Event) -> Result<bool, ReadError> {
        if event.failed || event.kind == EventKind::Free {
            return Ok(false);
        }
        match self {
            Self::Bits(bits) => bits.next_bit().map_err(temporary_file),
            Self::Numbers { numbers, passed, requests } => {
                let picked = numbers.get(*passed) == Some(requests);
                *passed += usize::from(picked);
                *requests += 1;
                Ok(picked)
            }
        }
    }

    fn rewind(&mut self) {
        match self {
            Self::Bits(bits) => bits.rewind(),
            Self::Numbers { passed, requests, .. } => (*passed, *requests) = (0, 0),
        }
    }
}

/// What is to be said where there can be no temporary file, or it has no room.
fn temporary_file(source: io::Error) -> ReadError {
    ReadError::Io {
        path: std::env::temp_dir(),
        attempt: "keep a temporary file of one bit for each request, by whose lifetimes they are picked: set \
                  TMPDIR to a directory with room for it"
            .to_owned(),
        source,
    }
}
