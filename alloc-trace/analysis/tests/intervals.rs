//! The figures of intervals: on random recordings they are those that the summary has with filters
//! of the same times, and the peaks are those of a slow and obvious model.

mod support;

use std::collections::BTreeMap;

use alloc_trace_analysis::{
    Bin, Blocks, By, CallTreeWeights, Cell, EventKind, Figures, Filter, Grouped, Intervals, Moment,
    Options, Resolution, Row, Summary,
};
use alloc_trace_format::Event;
use proptest::prelude::*;

use support::{Script, alloc, at, failed, free, realloc};

const THREADS: u32 = 3;
const SITES: u32 = 5;
/// The row of call sites that have none of their own.
const OTHERS: &str = "[other call sites]";

/// A kind of step, a thread, a call site, a size, which live block, and how long nothing happens.
type Step = (u8, u32, u32, u64, prop::sample::Index, u64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pause = prop_oneof![8 => Just(0_u64), 1 => 0..2_000_u64];
    let step = (0..12_u8, 1..=THREADS, 0..SITES, 0..300_u64, any::<prop::sample::Index>(), pause);
    prop::collection::vec(step, 0..150)
}

/// Writes a recording; its events.
fn write(script: &mut Script, steps: &[Step]) -> Vec<Event> {
    let mut history = Vec::new();
    for thread in 1..=THREADS {
        script.thread(thread, &format!("thread {thread}"), false);
    }
    script.thread(7, "recorder", true);
    script.node(2, 0, 0x1000);
    for site in 0..SITES {
        script.node(3 + site, 2, 0x2000 + 0x100 * u64::from(site));
    }
    script.span(1, None, "job", "");
    let mut live: Vec<(u64, u64)> = Vec::new();
    let mut unused = 0x1_0000;
    for &(step, thread, site, size, index, pause) in steps {
        script.now += pause;
        unused += 0x1000;
        let event = match step {
            0..=4 => {
                live.push((unused, size));
                alloc(thread, unused, size)
            }
            5..=7 if !live.is_empty() => {
                let (address, size) = live.swap_remove(index.index(live.len()));
                // What the program handed to the recorder is the program's all the same.
                free(if step == 7 { 7 } else { thread }, address, size)
            }
            8 if !live.is_empty() => {
                let index = index.index(live.len());
                let old = live[index];
                live[index] = (unused, size);
                realloc(thread, old, (unused, size))
            }
            9 => failed(alloc(thread, 0, size)),
            10 => {
                script.enter(thread, 1);
                continue;
            }
            11 => {
                script.exit(thread, 1);
                continue;
            }
            _ => free(thread, unused, size),
        };
        script.event(at(3 + site, event));
        history.push(Event { stamp: script.now, ..at(3 + site, event) });
    }
    script.end();
    history
}

/// The cells of bins `from..to`, and what was live before and at the peak of bin `peak`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Part {
    allocated_bytes: u64,
    requests: u64,
    temporary_allocations: u64,
    kept_bytes: u64,
    kept_blocks: u64,
    live_bytes: u64,
    peak_bytes: u64,
    at_peak_bytes: u64,
}

fn part(cells: &[Cell], from: u32, to: u32, peak: u32) -> Part {
    let mut part = Part::default();
    let mut live = 0;
    let mut at_peak = None;
    let mut peak_bytes = None;
    for cell in cells.iter().filter(|cell| cell.bin < to) {
        if cell.bin >= peak && at_peak.is_none() {
            at_peak = Some(if cell.bin == peak { cell.at_peak_bytes } else { live });
        }
        if cell.bin >= from {
            part.allocated_bytes += cell.allocated_bytes;
            part.requests += cell.requests;
            part.temporary_allocations += cell.temporary_allocations;
            part.kept_bytes += cell.kept_bytes;
            part.kept_blocks += cell.kept_blocks;
            peak_bytes = Some(peak_bytes.unwrap_or(live).max(cell.peak_bytes));
        }
        live = live + cell.allocated_bytes - cell.released_bytes;
    }
    part.live_bytes = live;
    part.at_peak_bytes = at_peak.unwrap_or(live);
    part.peak_bytes = peak_bytes.unwrap_or(live);
    part
}

fn of_figures(figures: &Figures) -> [u64; 5] {
    [
        figures.allocated_bytes,
        figures.requests(),
        figures.temporary_allocations,
        figures.live_bytes_at_end,
        figures.live_blocks_at_end,
    ]
}

fn of_part(part: &Part) -> [u64; 5] {
    let Part { allocated_bytes, requests, temporary_allocations, kept_bytes, kept_blocks, .. } =
        *part;
    [allocated_bytes, requests, temporary_allocations, kept_bytes, kept_blocks]
}

fn of_bins(bins: &[Bin]) -> Figures {
    let sum = |figure: fn(&Bin) -> u64| bins.iter().map(figure).sum();
    let requests: fn(&Bin) -> u64 =
        |bin| bin.allocations + bin.zeroed_allocations + bin.reallocations;
    Figures {
        events: sum(requests) + sum(|bin| bin.frees),
        allocations: sum(|bin| bin.allocations),
        zeroed_allocations: sum(|bin| bin.zeroed_allocations),
        reallocations: sum(|bin| bin.reallocations),
        frees: sum(|bin| bin.frees),
        failed_requests: sum(|bin| bin.failed_requests),
        temporary_allocations: sum(|bin| bin.temporary_allocations),
        allocated_bytes: sum(|bin| bin.allocated_bytes),
        freed_bytes: sum(|bin| bin.allocated_bytes) - sum(|bin| bin.kept_bytes),
        live_bytes_at_end: sum(|bin| bin.kept_bytes),
        live_blocks_at_end: sum(|bin| bin.kept_blocks),
        lifetime_ns: bins.iter().map(|bin| bin.lifetime_ns).sum(),
        ..Figures::default()
    }
}

/// The live bytes of the program and of each call site, after each event and with its time.
type Curve = Vec<(u64, u64, BTreeMap<String, u64>)>;

fn curve(history: &[Event]) -> Curve {
    let mut blocks: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    let mut curve = Vec::new();
    for event in history.iter().filter(|event| !event.failed) {
        match event.kind {
            EventKind::Free => drop(blocks.remove(&event.address)),
            EventKind::Realloc => drop(blocks.remove(&event.old_address)),
            _ => {}
        }
        if event.kind != EventKind::Free {
            let site = format!("[{:#x}]", 0x2000 + 0x100 * (event.node.0 - 3));
            blocks.insert(event.address, (event.size, site));
        }
        let mut by_site: BTreeMap<String, u64> = BTreeMap::new();
        for (size, site) in blocks.values() {
            *by_site.entry(site.clone()).or_default() += size;
        }
        curve.push((event.stamp - 1_000, by_site.values().sum(), by_site));
    }
    curve
}

fn with(script: &mut Script, filter: Filter) -> Summary {
    script.summary_with(Options::default().filter(filter))
}

fn compare(
    script: &mut Script,
    curve: &Curve,
    from: u32,
    to: u32,
    intervals: &Intervals,
) -> Result<(), TestCaseError> {
    let (first_ns, last_ns) =
        (u64::from(from) * intervals.bin_ns, u64::from(to) * intervals.bin_ns - 1);
    let requested =
        with(script, Filter::default().from(Moment::Ns(first_ns)).to(Moment::Ns(last_ns)));
    let bins = &intervals.bins[from as usize..to as usize];
    // The peak of what the filter picks may be at any later time.
    let Figures { peak_bytes, peak_at_ns, at_peak_bytes, at_peak_blocks, .. } = requested.total;
    let of_bins = of_bins(bins);
    let expected = Figures { peak_bytes, peak_at_ns, at_peak_bytes, at_peak_blocks, ..of_bins };
    prop_assert_eq!(requested.total, expected, "requested in bins {}..{}", from, to);
    let live = with(script, Filter::default().live_at(Moment::Ns(last_ns)));

    // The bin whose peak is first the highest.
    let peak = (from..to).rev().max_by_key(|&bin| intervals.bins[bin as usize].peak_bytes);
    let peak = peak.expect("a bin");
    let peak_bytes = intervals.bins[peak as usize].peak_bytes;
    let rows: Vec<(String, Part)> = intervals
        .sites
        .iter()
        .map(|row| (row.key.function.to_string(), part(&row.cells, from, to, peak)))
        .collect();
    // A row is of its call site; that of the others of all that have none.
    let is_of = |name: &str, site: &str| match name {
        OTHERS => rows.iter().all(|(own, _)| own != site),
        _ => name == site,
    };
    for (name, found) in &rows {
        let of = |summary: &Summary| {
            let sites = summary.sites.iter().filter(|row| is_of(name, &row.site.function));
            sites.fold([0; 5], |sum, row| {
                let figures = of_figures(&row.figures);
                std::array::from_fn(|index| sum[index] + figures[index])
            })
        };
        prop_assert_eq!(of(&requested), of_part(found), "{}", name);
        prop_assert_eq!(of(&live)[0], found.live_bytes, "{} live", name);
    }
    let requests: u64 = rows.iter().map(|(_, part)| part.requests).sum();
    prop_assert_eq!(requests, requested.total.requests());

    // Peaks, from the state before the first event of the interval on.
    let before = curve.iter().rev().find(|point| point.0 < first_ns);
    let inside = curve.iter().filter(|point| (first_ns..=last_ns).contains(&point.0));
    let points: Vec<_> = before.into_iter().chain(inside).collect();
    let most = points.iter().map(|point| point.1).max().unwrap_or(0);
    prop_assert_eq!(peak_bytes, most, "peak in {}..{}", from, to);
    let first = points.iter().find(|point| point.1 == most);
    for (name, found) in &rows {
        let of = |point: &(u64, u64, BTreeMap<String, u64>)| {
            let sites = point.2.iter().filter(|(site, _)| is_of(name, site));
            sites.map(|(_, bytes)| bytes).sum::<u64>()
        };
        let most = points.iter().map(|point| of(point)).max().unwrap_or(0);
        prop_assert_eq!(found.peak_bytes, most, "peak of {}", name);
        let at_peak = first.map_or(0, |point| of(point));
        prop_assert_eq!(found.at_peak_bytes, at_peak, "{} at the peak", name);
    }

    // However it is divided, it adds up to the same.
    let whole = rows.iter().fold(Part::default(), |sum, (_, part)| add(&sum, part));
    fn parts<K>(rows: &[Row<K>], from: u32, to: u32, peak: u32) -> Part {
        let parts = rows.iter().map(|row| part(&row.cells, from, to, peak));
        parts.fold(Part::default(), |sum, part| add(&sum, &part))
    }
    prop_assert_eq!(&parts(&intervals.functions, from, to, peak), &whole);
    prop_assert_eq!(&parts(&intervals.files, from, to, peak), &whole);
    prop_assert_eq!(&parts(&intervals.crates, from, to, peak), &whole);
    prop_assert_eq!(&parts(&intervals.threads, from, to, peak), &whole);
    prop_assert_eq!(&parts(&intervals.spans, from, to, peak), &whole);
    prop_assert_eq!(&parts(&intervals.sizes, from, to, peak), &whole);
    prop_assert_eq!(&parts(&intervals.nodes, from, to, peak), &whole);
    prop_assert_eq!(whole.at_peak_bytes, peak_bytes);
    let lifetimes = parts(&intervals.lifetimes, from, to, peak);
    let expected = (
        requested.total.requests() - requested.total.failed_requests,
        whole.allocated_bytes,
        whole.kept_bytes,
        whole.live_bytes,
    );
    let Part { requests, allocated_bytes, kept_bytes, live_bytes, .. } = lifetimes;
    prop_assert_eq!((requests, allocated_bytes, kept_bytes, live_bytes), expected);
    Ok(())
}

/// Everything that adds up over parts: their own peaks do not.
fn add(one: &Part, other: &Part) -> Part {
    Part {
        allocated_bytes: one.allocated_bytes + other.allocated_bytes,
        requests: one.requests + other.requests,
        temporary_allocations: one.temporary_allocations + other.temporary_allocations,
        kept_bytes: one.kept_bytes + other.kept_bytes,
        kept_blocks: one.kept_blocks + other.kept_blocks,
        live_bytes: one.live_bytes + other.live_bytes,
        peak_bytes: 0,
        at_peak_bytes: one.at_peak_bytes + other.at_peak_bytes,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn an_interval_has_the_figures_of_a_filter_of_its_times(
        steps in steps(),
        bins in 1..80_u32,
        cells in prop_oneof![Just(0_usize), Just(200), Just(usize::MAX)],
        rows in prop_oneof![2 => Just(usize::MAX), 1 => 0..6_usize],
        fold in 0..400_usize,
        picks in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 2),
    ) {
        let mut script = Script::new();
        let curve = curve(&write(&mut script, &steps));
        let resolution = Resolution::default().bins(bins).cells(cells).rows(rows);
        let recording = script.recording();
        let mut intervals =
            Intervals::of(&recording, Options::default(), resolution).expect("readable");
        let most = [intervals.sites.len(), intervals.functions.len(), intervals.threads.len()];
        prop_assert!(most.iter().all(|&most| most <= rows.saturating_add(1)));
        let over_time =
            Intervals::over_time(&recording, Options::default(), resolution).expect("readable");
        prop_assert!(over_time.sites.is_empty() && over_time.nodes.is_empty());
        // With fewer cells it has more bins.
        if over_time.bins.len() == intervals.bins.len() {
            prop_assert_eq!(&over_time.bins, &intervals.bins);
            prop_assert_eq!(&over_time.threads, &intervals.threads);
            prop_assert_eq!(&over_time.spans, &intervals.spans);
        } else {
            prop_assert!(cells != usize::MAX && over_time.bins.len() > intervals.bins.len());
        }
        // A smaller call tree is still all of it.
        intervals.fold_nodes(fold);
        let all = intervals.bins.len();
        prop_assert!(all as u32 <= bins);
        compare(&mut script, &curve, 0, all as u32, &intervals)?;
        for (one, other) in picks {
            let (one, other) = (one.index(all) as u32, other.index(all) as u32);
            compare(&mut script, &curve, one.min(other), one.max(other) + 1, &intervals)?;
        }
    }
}

/// Of a filter that asks for lifetimes, too, which has to be asked again for the second pass.
#[test]
fn the_largest_in_any_respect_have_rows_and_the_others_are_the_last_one() {
    let mut script = Script::new();
    script.thread(1, "main", false);
    for site in 0..6 {
        script.node(2 + site, 0, 0x1000 * u64::from(1 + site));
    }
    let mut block = 0;
    let mut request = |script: &mut Script, site: u32, size: u64, freed: bool| {
        block += 0x1000;
        script.event(at(2 + site, alloc(1, block, size)));
        if freed {
            script.event(free(1, block, size));
        }
    };
    // Little of anything; many bytes; many requests; little, twice; the only one that keeps any.
    request(&mut script, 0, 10, true);
    request(&mut script, 1, 5_000, true);
    (0..50).for_each(|_| request(&mut script, 2, 1, true));
    request(&mut script, 3, 20, true);
    request(&mut script, 4, 30, true);
    request(&mut script, 5, 1, false);
    script.now += 10;
    script.end();
    let recording = script.recording();
    for filter in [Filter::default(), Filter::default().lifetimes(1..)] {
        let of = |rows| {
            let options = Options::default().filter(filter.clone());
            let resolution = Resolution::default().bins(4).rows(rows);
            Intervals::of(&recording, options, resolution).expect("readable")
        };
        let all = of(usize::MAX);
        let some = of(3);
        let found: Vec<(&str, u32, u64)> = some
            .sites
            .iter()
            .map(|row| {
                let bytes = row.cells.iter().map(|cell| cell.allocated_bytes).sum();
                (&*row.key.function, row.parts, bytes)
            })
            .collect();
        let expected = [("[0x2000]", 1, 5_000), ("[0x3000]", 1, 50), ("[0x6000]", 1, 1)];
        assert_eq!(found[..3], expected);
        assert_eq!(found[3..], [(OTHERS, 3, 60)]);
        assert_eq!(some.sites[..2], [1, 2].map(|site| all.sites[site].clone()));
        assert_eq!(some.bins, all.bins);
        let nodes: Vec<(&str, u32)> =
            some.nodes.iter().map(|row| (&*row.key.function, row.parts)).collect();
        let own = ["[0x2000]", "[0x3000]", "[0x6000]"].map(|name| (name, 1));
        assert_eq!(nodes[0], ("[smaller functions]", 3));
        assert_eq!(nodes[1..], own);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn lifetimes_add_up_to_the_same_in_every_reading(steps in steps()) {
        // A time is no whole number of stamps here, so what is rounded late adds up to something else.
        let mut script = Script::in_thirds();
        write(&mut script, &steps);
        let recording = script.recording();
        let options = Options::default;
        let summary = Summary::of(&recording, options()).expect("readable");
        let total = summary.total.lifetime_ns;
        let mut rows = 0;
        let mut blocks = Blocks::of(&recording, options()).expect("readable");
        while let Some(row) = blocks.next_row().expect("readable") {
            let to_the_end = summary.duration_ns - row.obtained_ns;
            rows += u128::from(row.end.map_or(to_the_end, |end| end.lifetime_ns));
        }
        prop_assert_eq!(rows, total, "rows");
        let sum = |figures: &mut dyn Iterator<Item = &Figures>| -> u128 {
            figures.map(|figures| figures.lifetime_ns).sum()
        };
        prop_assert_eq!(sum(&mut summary.sites.iter().map(|site| &site.figures)), total);
        prop_assert_eq!(sum(&mut summary.by_thread.iter().map(|thread| &thread.figures)), total);
        let intervals =
            Intervals::of(&recording, options(), Resolution::default()).expect("readable");
        prop_assert_eq!(of_bins(&intervals.bins).lifetime_ns, total, "bins");
        let tree = CallTreeWeights::of(&recording, options()).expect("readable");
        prop_assert_eq!(tree.total.lifetime_ns, total, "tree");
        prop_assert_eq!(sum(&mut tree.own.iter()), total, "nodes");
        for by in [By::Site, By::Function, By::Thread, By::Span, By::Size, By::Lifetime] {
            let grouped = Grouped::of(&recording, options(), by).expect("readable");
            prop_assert_eq!(grouped.total.lifetime_ns, total, "{:?}", by);
            let groups = sum(&mut grouped.groups.iter().map(|group| &group.figures));
            prop_assert_eq!(groups, total, "groups of {:?}", by);
        }
    }
}

#[test]
fn too_many_cells_make_fewer_bins() {
    let mut script = Script::new();
    script.thread(1, "main", false);
    for number in 0..1_000 {
        script.event(alloc(1, 0x1000 * (number + 1), number));
    }
    script.end();
    let recording = script.recording();
    let bins = |cells| {
        let resolution = Resolution::default().bins(256).cells(cells);
        let intervals =
            Intervals::of(&recording, Options::default(), resolution).expect("readable");
        assert_eq!(intervals.bins.iter().map(|bin| bin.allocations).sum::<u64>(), 1_000);
        intervals.bins.len()
    };
    assert!(bins(usize::MAX) > 128);
    for cells in [0, 500] {
        assert!((16..=34).contains(&bins(cells)), "{}", bins(cells));
    }
}

#[test]
fn the_call_tree_is_of_functions() {
    let mut script = Script::new();
    script.thread(1, "main", false);
    for (id, parent, address) in [(2, 0, 0x1000), (3, 2, 0x2000), (4, 2, 0x3000), (5, 1, 0x2000)] {
        script.node(id, parent, address);
    }
    for (address, node) in [(0x10, 3), (0x20, 4), (0x30, 2), (0x40, 5), (0x50, 0), (0x60, 77)] {
        script.event(at(node, alloc(1, address, 8)));
    }
    script.end();
    let intervals =
        Intervals::of(&script.recording(), Options::default(), Resolution::default().bins(1))
            .expect("readable");
    let name = |index: Option<u32>| match index {
        None => "",
        Some(index) => &*intervals.nodes[index as usize].key.function,
    };
    let mut found: Vec<(&str, &str, u64)> = intervals
        .nodes
        .iter()
        .map(|row| {
            let bytes = row.cells.iter().map(|cell| cell.allocated_bytes).sum();
            (name(row.key.parent), &*row.key.function, bytes)
        })
        .collect();
    found.sort_unstable();
    let expected = [
        ("", "[0x1000]", 8),
        ("", "[backtrace was cut]", 0),
        ("", "[no backtrace]", 8),
        ("", "[unknown]", 8),
        ("[0x1000]", "[0x2000]", 8),
        ("[0x1000]", "[0x3000]", 8),
        ("[backtrace was cut]", "[0x2000]", 8),
    ];
    assert_eq!(found, expected);
}

#[test]
fn small_functions_are_folded_into_one_below_their_caller() {
    let mut script = Script::new();
    script.thread(1, "main", false);
    script.node(2, 0, 0x1000);
    for callee in 0..100 {
        script.node(3 + callee, 2, 0x2000 + u64::from(callee));
    }
    script.event(at(2, alloc(1, 0x10, 10_000)));
    for callee in 0..100 {
        let size = if callee == 7 { 5_000 } else { 1 };
        script.event(at(3 + callee, alloc(1, 0x1000 * u64::from(callee + 1), size)));
    }
    script.end();
    let resolution = Resolution::default().bins(1);
    let mut intervals =
        Intervals::of(&script.recording(), Options::default(), resolution).expect("readable");
    intervals.fold_nodes(10);
    let nodes: Vec<(Option<u32>, &str, u64, u64)> = intervals
        .nodes
        .iter()
        .map(|row| {
            let cell = row.cells[0];
            (row.key.parent, &*row.key.function, cell.allocated_bytes, cell.at_peak_bytes)
        })
        .collect();
    let expected = [
        (None, "[0x1000]", 10_000, 10_000),
        (Some(0), "[smaller functions]", 99, 99),
        (Some(0), "[0x2007]", 5_000, 5_000),
    ];
    assert_eq!(nodes, expected);
}

/// The times in a damaged file can be any. As many bins as their width says would fill all memory.
#[test]
fn no_time_makes_more_bins_than_are_asked_for() {
    for last in [1 << 40, 1 << 62, (1 << 63) + 990, u64::MAX - 10] {
        let mut script = Script::new();
        script.thread(1, "main", false);
        script.event(alloc(1, 0x1000, 8));
        script.now = last / 2;
        script.event(alloc(1, 0x2000, 16));
        script.now = last;
        script.event(free(1, 0x2000, 16));
        script.end();
        for bins in [1, 2, 77, 1024] {
            let resolution = Resolution::default().bins(bins);
            let intervals =
                Intervals::of(&script.recording(), Options::default(), resolution).expect("read");
            assert!(intervals.bins.len() <= bins as usize, "{last}: {}", intervals.bins.len());
            let whole_ns = intervals.bin_ns.checked_mul(intervals.bins.len() as u64);
            assert!(whole_ns.is_some_and(|ns| ns > intervals.state.duration_ns), "{last}");
            let obtained: u64 = intervals.bins.iter().map(Bin::obtained_blocks).sum();
            let frees: u64 = intervals.bins.iter().map(|bin| bin.frees).sum();
            assert_eq!((obtained, frees), (2, 1));
        }
    }
}
