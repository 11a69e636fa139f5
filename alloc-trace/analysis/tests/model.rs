//! The analysis against a slow and obvious model, on random recordings.
//!
//! The model keeps the whole history and asks it anew for every figure.

mod support;

use std::collections::BTreeMap;

use alloc_trace_analysis::{
    Blocks, By, CallTreeWeights, Figures, Filter, GroupKey, Grouped, Leaks, Moment, Options,
    ProgramPoints, Recording, Summary,
};
use alloc_trace_format::{Event, EventKind};
use proptest::prelude::*;

use support::{Script, alloc, at, failed, free, realloc};

const THREADS: u32 = 3;
const SITES: u32 = 4;
const SPANS: u64 = 3;

/// What happens, before it is decided to which block.
#[derive(Debug, Clone, Copy)]
enum Step {
    Alloc { zeroed: bool, fails: bool },
    Free,
    FreeOlder,
    Realloc { fails: bool, moves: bool },
    Enter(u64),
    Exit(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), 0..10_u8)
            .prop_map(|(zeroed, fails)| Step::Alloc { zeroed, fails: fails == 0 }),
        4 => Just(Step::Free),
        1 => Just(Step::FreeOlder),
        3 => (0..10_u8, any::<bool>())
            .prop_map(|(fails, moves)| Step::Realloc { fails: fails == 0, moves }),
        2 => (1..=SPANS).prop_map(Step::Enter),
        2 => (1..=SPANS).prop_map(Step::Exit),
    ]
}

/// An event, the site that it was made at, and the span that it was made in.
#[derive(Debug, Clone, Copy)]
struct Happened {
    event: Event,
    site: u32,
    span: Option<u64>,
}

/// A block: obtained by the event with this number, released by that one.
#[derive(Debug, Clone, Copy)]
struct Block {
    obtained: usize,
    released: Option<usize>,
}

fn blocks(history: &[Happened]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (number, happened) in history.iter().enumerate() {
        let event = happened.event;
        if event.failed {
            continue;
        }
        let released = match event.kind {
            EventKind::Free => Some(event.address),
            EventKind::Realloc => Some(event.old_address),
            _ => None,
        };
        let block = blocks.iter_mut().find(|block| {
            block.released.is_none() && Some(history[block.obtained].event.address) == released
        });
        if let Some(block) = block {
            block.released = Some(number);
        }
        if event.kind != EventKind::Free {
            blocks.push(Block { obtained: number, released: None });
        }
    }
    blocks
}

/// Whether a block is live when the event of a number has happened.
fn is_live_after(block: &Block, number: usize) -> bool {
    block.obtained <= number && block.released.is_none_or(|released| released > number)
}

/// Whether a block was freed before its thread's next successful request.
fn is_temporary(history: &[Happened], block: &Block) -> bool {
    let obtainer = history[block.obtained].event.thread;
    block.released.is_some_and(|released| {
        history[released].event.kind == EventKind::Free
            && !history[block.obtained + 1..released].iter().any(|between| {
                between.event.thread == obtainer
                    && between.event.kind != EventKind::Free
                    && !between.event.failed
            })
    })
}

/// The event that first brought the program to its peak, unless nothing was ever live.
fn peak_number(history: &[Happened], blocks: &[Block]) -> Option<usize> {
    let live_after = |number: usize| -> u64 {
        let live = blocks.iter().filter(|block| is_live_after(block, number));
        live.map(|block| history[block.obtained].event.size).sum()
    };
    let peak = (0..history.len()).map(live_after).max().filter(|&peak| peak > 0)?;
    (0..history.len()).find(|&number| live_after(number) == peak)
}

/// The figures of the part of the program that `is_part` picks.
fn figures(history: &[Happened], is_part: impl Fn(&Happened) -> bool) -> Figures {
    let made: Vec<&Happened> = history.iter().filter(|happened| is_part(happened)).collect();
    let count = |wanted: &dyn Fn(&Event) -> bool| {
        made.iter().filter(|happened| wanted(&happened.event)).count() as u64
    };
    let blocks = blocks(history);
    let at_peak = peak_number(history, &blocks);
    let own: Vec<Block> =
        blocks.into_iter().filter(|block| is_part(&history[block.obtained])).collect();
    let size = |block: &Block| history[block.obtained].event.size;
    let live_after = |number: usize| -> u64 {
        own.iter().filter(|block| is_live_after(block, number)).map(size).sum()
    };
    let (mut peak_bytes, mut peak_at_ns) = (0, 0);
    for (number, happened) in history.iter().enumerate() {
        if live_after(number) > peak_bytes {
            peak_bytes = live_after(number);
            peak_at_ns = happened.event.stamp - 1_000;
        }
    }
    let last = history.len().saturating_sub(1);
    let at_peak: Vec<&Block> = own
        .iter()
        .filter(|block| at_peak.is_some_and(|number| is_live_after(block, number)))
        .collect();
    Figures {
        events: made.len() as u64,
        allocations: count(&|event| event.kind == EventKind::Alloc),
        zeroed_allocations: count(&|event| event.kind == EventKind::AllocZeroed),
        reallocations: count(&|event| event.kind == EventKind::Realloc),
        frees: count(&|event| event.kind == EventKind::Free),
        failed_requests: count(&|event| event.failed),
        temporary_allocations: own.iter().filter(|block| is_temporary(history, block)).count()
            as u64,
        allocated_bytes: own.iter().map(size).sum(),
        freed_bytes: own.iter().filter(|block| block.released.is_some()).map(size).sum(),
        peak_bytes,
        peak_at_ns,
        at_peak_bytes: at_peak.iter().map(|block| size(block)).sum(),
        at_peak_blocks: at_peak.len() as u64,
        live_bytes_at_end: live_after(last),
        live_blocks_at_end: own.iter().filter(|block| block.released.is_none()).count() as u64,
        lifetime_ns: own.iter().map(|block| u128::from(lifetime(history, block))).sum(),
    }
}

/// How long a block lived; one that was never released, until the last record.
fn lifetime(history: &[Happened], block: &Block) -> u64 {
    let end = block.released.unwrap_or(history.len() - 1);
    history[end].event.stamp - history[block.obtained].event.stamp
}

/// Writes the recording; what happened in it.
fn play(
    script: &mut Script,
    steps: &[(Step, u32, u32, u64, prop::sample::Index)],
) -> Vec<Happened> {
    for thread in 1..=THREADS {
        script.thread(thread, "", false);
    }
    for site in 0..SITES {
        script.node(2 + site, 0, 0x100 * u64::from(site + 1));
    }
    for span in 1..=SPANS {
        script.span(span, None, &format!("span {span}"), "");
    }
    let mut history: Vec<Happened> = Vec::new();
    let mut live: Vec<(u64, u64)> = Vec::new();
    let mut entered: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    let mut unused = 0x1_0000;
    for &(step, thread, site, size, index) in steps {
        let mut fresh = || {
            unused += 0x10;
            unused
        };
        let event = match step {
            Step::Alloc { zeroed, fails } => {
                let kind = if zeroed { EventKind::AllocZeroed } else { EventKind::Alloc };
                let event = Event { kind, ..alloc(thread, fresh(), size) };
                if fails {
                    failed(event)
                } else {
                    live.push((event.address, size));
                    event
                }
            }
            Step::Free if !live.is_empty() => {
                let (address, size) = live.swap_remove(index.index(live.len()));
                free(thread, address, size)
            }
            Step::FreeOlder => free(thread, fresh(), size),
            Step::Realloc { fails, moves } if !live.is_empty() => {
                let index = index.index(live.len());
                let old = live[index];
                let new = (if moves { fresh() } else { old.0 }, size);
                if fails {
                    failed(realloc(thread, old, new))
                } else {
                    live[index] = new;
                    realloc(thread, old, new)
                }
            }
            Step::Free | Step::Realloc { .. } => continue,
            Step::Enter(span) => {
                script.enter(thread, span);
                entered.entry(thread).or_default().push(span);
                continue;
            }
            Step::Exit(span) => {
                script.exit(thread, span);
                let stack = entered.entry(thread).or_default();
                if let Some(last) = stack.iter().rposition(|&entered| entered == span) {
                    stack.remove(last);
                }
                continue;
            }
        };
        script.event(at(2 + site, event));
        let span = entered.get(&thread).and_then(|stack| stack.last()).copied();
        history.push(Happened { event: Event { stamp: script.now, ..event }, site, span });
    }
    // At the recording's end, until which blocks live that are never released.
    if !history.is_empty() {
        let event = free(1, 0x10, 1);
        script.event(at(2, event));
        let span = entered.get(&1).and_then(|stack| stack.last()).copied();
        history.push(Happened { event: Event { stamp: script.now, ..event }, site: 0, span });
    }
    script.end();
    history
}

fn compare(summary: &Summary, history: &[Happened]) -> Result<(), TestCaseError> {
    prop_assert_eq!(summary.total, figures(history, |_| true));
    for row in &summary.by_thread {
        let expected = figures(history, |happened| happened.event.thread.0 == row.thread);
        prop_assert_eq!(row.figures, expected, "thread {}", row.thread);
    }
    for site in 0..SITES {
        let expected = figures(history, |happened| happened.site == site);
        let name = site_name(site);
        let row = summary.sites.iter().find(|row| *row.site.function == *name);
        match row {
            Some(row) => prop_assert_eq!(row.figures, expected, "site {}", name),
            None => prop_assert_eq!(expected.requests(), 0, "site {}", name),
        }
    }
    for span in 1..=SPANS {
        let expected = figures(history, |happened| happened.span == Some(span));
        let row = summary.by_span.iter().find(|row| *row.name == *format!("span {span}"));
        match row {
            Some(row) => prop_assert_eq!(row.figures, expected, "span {}", span),
            None => prop_assert_eq!(expected.events, 0, "span {}", span),
        }
    }
    let older: Vec<&Happened> = history
        .iter()
        .filter(|happened| happened.event.kind == EventKind::Free)
        .filter(|happened| {
            !history.iter().any(|other| {
                other.event.kind != EventKind::Free && other.event.address == happened.event.address
            })
        })
        .collect();
    prop_assert_eq!(summary.unmatched_frees, older.len() as u64);
    let bytes: u64 = older.iter().map(|happened| happened.event.size).sum();
    prop_assert_eq!(summary.unmatched_freed_bytes, bytes);
    prop_assert!(summary.complete);
    Ok(())
}

/// Figures without what does not add up.
fn additive(figures: Figures) -> Figures {
    Figures { peak_bytes: 0, peak_at_ns: 0, ..figures }
}

fn compare_groups(recording: &Recording, history: &[Happened]) -> Result<(), TestCaseError> {
    let of = |by| Grouped::of(recording, Options::default(), by).expect("readable");
    for by in [By::Site, By::Function, By::Thread, By::Span, By::Size] {
        let grouped = of(by);
        prop_assert_eq!(grouped.total, figures(history, |_| true));
        let mut events = 0;
        for group in &grouped.groups {
            let expected = figures(history, |happened| match &group.key {
                GroupKey::Site(site) => *site.function == *site_name(happened.site),
                GroupKey::Function { function } => **function == *site_name(happened.site),
                GroupKey::Thread { thread, .. } => happened.event.thread.0 == *thread,
                GroupKey::Span { span, .. } => {
                    happened.span.map(|span| format!("span {span}")).as_deref() == span.as_deref()
                }
                GroupKey::Size { min_size, max_size } => {
                    (*min_size..=*max_size).contains(&happened.event.size)
                }
                _ => false,
            });
            prop_assert_eq!(group.figures, expected, "{:?}", group.key);
            events += group.figures.events;
        }
        prop_assert_eq!(events, history.len() as u64, "{:?}", by);
    }
    let blocks = blocks(history);
    let at_peak = peak_number(history, &blocks);
    let (mut met, mut events) = (0, 0);
    for group in of(By::Lifetime).groups {
        let GroupKey::Lifetime { known_block, min_lifetime_ns, max_lifetime_ns } = group.key else {
            return Err(TestCaseError::fail("a lifetime"));
        };
        events += group.figures.events;
        if !known_block {
            continue;
        }
        let lifetime = |block: &Block| {
            let end = history[block.released?].event.stamp;
            Some(end - history[block.obtained].event.stamp)
        };
        let own: Vec<&Block> = blocks
            .iter()
            .filter(|block| match (lifetime(block), min_lifetime_ns, max_lifetime_ns) {
                (Some(ns), Some(min), Some(max)) => (min..=max).contains(&ns),
                (lifetime, min, _) => lifetime.is_none() && min.is_none(),
            })
            .collect();
        met += own.len();
        let size = |block: &&Block| history[block.obtained].event.size;
        let kind = |wanted| {
            own.iter().filter(|block| history[block.obtained].event.kind == wanted).count() as u64
        };
        let released = own.iter().filter(|block| block.released.is_some());
        let freed = released.clone().filter(|block| {
            history[block.released.unwrap_or_default()].event.kind == EventKind::Free
        });
        let live: Vec<&&Block> =
            own.iter().filter(|block| at_peak.is_some_and(|at| is_live_after(block, at))).collect();
        let at_peak_bytes = live.iter().map(|block| size(block)).sum();
        let left = own.iter().filter(|block| block.released.is_none());
        let expected = Figures {
            events: own.len() as u64 + freed.clone().count() as u64,
            allocations: kind(EventKind::Alloc),
            zeroed_allocations: kind(EventKind::AllocZeroed),
            reallocations: kind(EventKind::Realloc),
            frees: freed.count() as u64,
            failed_requests: 0,
            temporary_allocations: own.iter().filter(|block| is_temporary(history, block)).count()
                as u64,
            allocated_bytes: own.iter().map(size).sum(),
            freed_bytes: released.clone().map(size).sum(),
            peak_bytes: at_peak_bytes,
            peak_at_ns: 0,
            at_peak_bytes,
            at_peak_blocks: live.len() as u64,
            live_bytes_at_end: left.clone().map(size).sum(),
            live_blocks_at_end: left.count() as u64,
            lifetime_ns: own.iter().map(|block| u128::from(self::lifetime(history, block))).sum(),
        };
        prop_assert_eq!(group.figures, expected, "{:?}", group.key);
        let lifetimes: Vec<u64> = released.filter_map(|block| lifetime(block)).collect();
        prop_assert_eq!(group.lifetimes.released_blocks, lifetimes.len() as u64);
        prop_assert_eq!(group.lifetimes.min_ns, lifetimes.iter().min().copied().unwrap_or(0));
        prop_assert_eq!(group.lifetimes.max_ns, lifetimes.iter().max().copied().unwrap_or(0));
        let mean = lifetimes.iter().sum::<u64>() / (lifetimes.len() as u64).max(1);
        prop_assert_eq!(group.lifetimes.mean_ns, mean);
    }
    prop_assert_eq!(met, blocks.len());
    prop_assert_eq!(events, history.len() as u64, "by lifetime");
    Ok(())
}

fn compare_blocks(recording: &Recording, history: &[Happened]) -> Result<(), TestCaseError> {
    type Row = (u64, u64, u64, Option<u64>, u32, String, Option<String>, bool);
    let mut expected: Vec<Row> = blocks(history)
        .iter()
        .map(|block| {
            let Happened { event, site, span } = history[block.obtained];
            (
                event.address,
                event.size,
                event.stamp - 1_000,
                block.released.map(|released| history[released].event.stamp - 1_000),
                event.thread.0,
                site_name(site),
                span.map(|span| format!("span {span}")),
                is_temporary(history, block),
            )
        })
        .collect();
    let mut rows = Blocks::of(recording, Options::default()).expect("readable");
    let mut found: Vec<Row> = Vec::new();
    while let Some(row) = rows.next_row().expect("readable") {
        found.push((
            row.address,
            row.size,
            row.obtained_ns,
            row.end.map(|end| end.time_ns),
            row.by.thread,
            row.by.site.function.to_string(),
            row.span.map(|span| span.name.to_string()),
            row.temporary,
        ));
    }
    expected.sort();
    found.sort();
    prop_assert_eq!(found, expected);
    Ok(())
}

fn compare_tree(recording: &Recording, history: &[Happened]) -> Result<(), TestCaseError> {
    for full in [false, true] {
        let options = Options::default().all_frames(full);
        let tree = CallTreeWeights::of(recording, options.clone()).expect("readable");
        prop_assert_eq!(tree.total, figures(history, |_| true));
        prop_assert_eq!(tree.inclusive[0], additive(tree.total));
        for site in 0..SITES {
            let expected = additive(figures(history, |happened| happened.site == site));
            let inside = |node: &u32| {
                let frame = tree.backtraces.frame(*node);
                frame.is_some_and(|frame| *frame.function == *site_name(site))
            };
            let nodes: Vec<u32> = (0..tree.backtraces.nodes.len() as u32).filter(inside).collect();
            let [node] = nodes.as_slice() else { panic!("{nodes:?}") };
            prop_assert_eq!(tree.own[*node as usize], expected);
            let points = ProgramPoints::of(recording, options.clone()).expect("readable");
            let point = points.points.iter().find(|point| point.node == *node);
            let lifetime_ns = point.map_or(0, |point| point.figures.lifetime_ns);
            prop_assert_eq!(lifetime_ns, expected.lifetime_ns);
            prop_assert_eq!(tree.inclusive[*node as usize], expected);
        }
    }
    Ok(())
}

fn compare_leaks(recording: &Recording, history: &[Happened]) -> Result<(), TestCaseError> {
    let all = blocks(history);
    let left = |site: u32| {
        let of_site = all.iter().filter(move |block| history[block.obtained].site == site);
        of_site.filter(|block| block.released.is_none()).map(|block| history[block.obtained])
    };
    let mut expected: Vec<_> = (0..SITES)
        .filter(|&site| left(site).next().is_some())
        .map(|site| {
            let sizes = || left(site).map(|happened| happened.event.size);
            let obtained = all.iter().filter(|block| history[block.obtained].site == site).count();
            (
                site_name(site),
                sizes().count() as u64,
                sizes().sum::<u64>(),
                sizes().min().unwrap_or_default(),
                sizes().max().unwrap_or_default(),
                obtained as u64,
                left(site).filter(|happened| happened.span.is_some()).count() as u64,
            )
        })
        .collect();
    let leaks = Leaks::of(recording, Options::default()).expect("readable");
    let mut found: Vec<_> = leaks
        .sites
        .iter()
        .map(|site| {
            let by_thread: u64 = site.threads.iter().map(|thread| thread.blocks).sum();
            assert_eq!(by_thread, site.blocks);
            let in_spans = site.spans.iter().map(|span| span.blocks).sum();
            (
                site.site.function.to_string(),
                site.blocks,
                site.bytes,
                site.min_size,
                site.max_size,
                site.obtained_blocks,
                in_spans,
            )
        })
        .collect();
    prop_assert_eq!(leaks.bytes, expected.iter().map(|row| row.2).sum::<u64>());
    expected.sort();
    found.sort();
    prop_assert_eq!(found, expected);
    Ok(())
}

/// A filter finds the peak where the summary has it.
fn compare_peak(recording: &Recording, history: &[Happened]) -> Result<(), TestCaseError> {
    let of = |filter| {
        let options = Options::default().symbols(false).filter(filter);
        Summary::of(recording, options).expect("readable").total
    };
    let peak_stamp = 1_000 + of(Filter::default()).peak_at_ns;
    let until = of(Filter::default().to(Moment::Peak)).requests();
    let is_until = |happened: &&Happened| happened.event.stamp <= peak_stamp;
    let requests = history.iter().filter(|happened| happened.event.kind != EventKind::Free);
    prop_assert_eq!(until, requests.filter(is_until).count() as u64);
    Ok(())
}

fn site_name(site: u32) -> String {
    format!("[{:#x}]", 0x100 * (site + 1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn every_figure_is_that_of_the_model(
        steps in prop::collection::vec(
            (step(), 1..=THREADS, 0..SITES, 0..200_u64, any::<prop::sample::Index>()),
            0..120,
        ),
    ) {
        let mut script = Script::new();
        let history = play(&mut script, &steps);
        compare(&script.summary(), &history)?;
        let recording = script.recording();
        compare_groups(&recording, &history)?;
        compare_blocks(&recording, &history)?;
        compare_tree(&recording, &history)?;
        compare_leaks(&recording, &history)?;
        compare_peak(&recording, &history)?;
    }
}
