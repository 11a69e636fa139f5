//! The tables: what each workload costs under each allocator, as ratios to ours.

use std::fmt::Write;

use super::results::{Results, cell_name};
use crate::allocator::{self, LEAN, OURS};
use crate::burst::Burst;
use crate::comparison::{Comparison, Row, verdict};
use crate::measured::Measured;
use crate::statistics::Spread;
use crate::workloads::{self, Workload};

/// All tables, as Markdown.
#[must_use]
pub fn tables(results: &Results) -> String {
    let mut text =
        format!("{}\n\nOurs in relation to each peer's; below 1 it is less.\n", results.machine);
    push_set(&mut text, results, "Workloads", workloads::ALL, push_verdicts);
    let title = "Kept aside, run when all was done";
    push_set(&mut text, results, title, workloads::KEPT_ASIDE, push_verdicts);
    let title = "As the number of live blocks grows";
    push_set(&mut text, results, title, workloads::LIVE_SETS, |text, _, _| {
        push_growth(text, results);
    });
    text
}

/// The tables of a set of workloads, and what is concluded from its times and its memory.
fn push_set(
    text: &mut String,
    results: &Results,
    title: &str,
    set: &[Workload],
    conclude: impl Fn(&mut String, &Comparison, &Comparison),
) {
    let compare = |measure: fn(&Measured) -> f64| compare(results, set, measure);
    let time = compare(Measured::ns_per_operation);
    if time.rows.is_empty() {
        return;
    }
    let memory = compare(|run| run.peak_resident_bytes as f64);
    let faults = compare(|run| run.minor_faults as f64);
    for (what, compared, unit, scale) in [
        ("time of an operation", &time, "ns", 1.0),
        ("peak resident memory", &memory, "MiB", 1024.0 * 1024.0),
        ("page faults", &faults, "thousand", 1e3),
    ] {
        let table = compared.table("workload, threads", unit, scale);
        let _ = write!(text, "\n{title}: {what}\n\n{table}");
    }
    text.push('\n');
    conclude(text, &time, &memory);
}

/// One measure of a set of workloads.
fn compare(results: &Results, set: &[Workload], measure: fn(&Measured) -> f64) -> Comparison {
    let peers = allocator::ALL.iter().map(|peer| peer.name);
    let cells = set.iter().flat_map(|workload| {
        workload.threads.iter().map(|threads| cell_name(workload.name, *threads))
    });
    let mut compared = Comparison::new(OURS, peers, cells, |cell, allocator| {
        results.runs(cell, allocator).iter().map(measure).collect()
    });
    for row in &mut compared.rows {
        row.name = row.name.replace(" | ", ", ");
    }
    compared
}

/// How much more an operation costs with ten million live blocks than with a thousand, and what of it is
/// the allocator's: what it takes above the loop without one.
fn push_growth(text: &mut String, results: &Results) {
    let (Some(few), Some(many)) = (Ends::first(results), Ends::last(results)) else { return };
    let _ = writeln!(
        text,
        "From {} to {}, the time of an operation, and what of it is above the loop alone ({:.1} and {:.1} ns):",
        few.name, many.name, few.alone, many.alone
    );
    for allocator in &allocator::ALL {
        let of = |ends: &Ends| median_ns(results, ends.name, allocator.name);
        if let (Some(before), Some(after)) = (of(&few), of(&many)) {
            let (own, own_after) = (before - few.alone, after - many.alone);
            let _ = writeln!(
                text,
                "- {}: {before:.1} to {after:.1} ns, {:.1} times; above it {own:.1} to {own_after:.1} ns, {:.1} times",
                allocator.name,
                after / before,
                own_after / own
            );
        }
    }
}

/// One end of the row of live sets.
struct Ends {
    name: &'static str,
    /// What its loop takes without an allocator, in nanoseconds an operation.
    alone: f64,
}

impl Ends {
    fn first(results: &Results) -> Option<Self> {
        Self::of(results, workloads::LIVE_SETS.first()?, workloads::LIVE_SETS_ALONE.first()?)
    }

    fn last(results: &Results) -> Option<Self> {
        Self::of(results, workloads::LIVE_SETS.last()?, workloads::LIVE_SETS_ALONE.last()?)
    }

    fn of(results: &Results, workload: &Workload, alone: &Workload) -> Option<Self> {
        Some(Self { name: workload.name, alone: median_ns(results, alone.name, OURS)? })
    }
}

/// The median time of an operation on one thread, in nanoseconds.
fn median_ns(results: &Results, workload: &str, allocator: &str) -> Option<f64> {
    let runs = results.runs(&cell_name(workload, 1), allocator);
    let times: Vec<_> = runs.iter().map(Measured::ns_per_operation).collect();
    (!times.is_empty()).then(|| Spread::of(&times).median)
}

/// What has gone back of a burst, as a table.
#[must_use]
pub fn bursts(bursts: &[(&'static str, Burst)]) -> String {
    let mut text = String::from("| allocator | at the peak, MiB |");
    let looks: Vec<_> = bursts.first().map(|(_, burst)| burst.gone_back()).unwrap_or_default();
    for (look, _) in &looks {
        let _ = write!(text, " after {look} ms |");
    }
    let _ = writeln!(text, "\n|---|---:|{}", "---:|".repeat(looks.len()));
    for (name, burst) in bursts {
        let _ = write!(text, "| {name} | {:.0} |", burst.at_peak as f64 / 1024.0 / 1024.0);
        for (_, part) in burst.gone_back() {
            let _ = write!(text, " {:.0} % |", part * 100.0);
        }
        text.push('\n');
    }
    text
}

/// What was aimed at, and what holds.
fn push_verdicts(text: &mut String, time: &Comparison, memory: &Comparison) {
    if let Some(best) = time.best_all_round() {
        let what = format!("time against the best all-round peer, {}", time.peers[best]);
        text.push_str(&verdict(&what, time.mean_to(best), 0.80));
    }
    text.push_str(&verdict(
        "time against the best peer of each workload",
        time.mean_to_best(),
        0.95,
    ));
    if let Some(lean) = memory.peers.iter().position(|peer| *peer == LEAN) {
        let what = format!("peak resident memory against {LEAN}");
        text.push_str(&verdict(&what, memory.mean_to(lean), 1.00));
    }
    let above = |row: &&Row| row.best().is_some_and(|(_, ratio)| ratio.low > 1.15);
    let count = time.rows.iter().filter(above).count();
    let holds = if count == 0 { "holds" } else { "**falls short**" };
    let _ =
        writeln!(text, "- workloads above 1.15 of their best peer: {count}, none allowed: {holds}");
    for row in time.rows.iter().filter(above) {
        if let Some((peer, ratio)) = row.best() {
            let (name, peer) = (&row.name, time.peers[peer]);
            let _ = writeln!(
                text,
                "  - {name}: {:.2} ({:.2}–{:.2}) of {peer}",
                ratio.median, ratio.low, ratio.high
            );
        }
    }
}
