//! The tables: what each workload costs under each allocator, as ratios to ours.

use std::fmt::Write;

use super::results::Results;
use crate::allocator::{self, LEAN, OURS};
use crate::comparison::{Comparison, Row, verdict};
use crate::measured::Measured;

/// All tables, as Markdown.
#[must_use]
pub fn tables(results: &Results) -> String {
    let time = compare(results, Measured::ns_per_operation);
    let memory = compare(results, |run| run.peak_resident_bytes as f64);
    let faults = compare(results, |run| run.minor_faults as f64);
    let mut text =
        format!("{}\n\nOurs in relation to each peer's; below 1 it is less.\n", results.machine);
    for (title, compared, unit, scale) in [
        ("Time of an operation", &time, "ns", 1.0),
        ("Peak resident memory", &memory, "MiB", 1024.0 * 1024.0),
        ("Page faults", &faults, "thousand", 1e3),
    ] {
        let _ = write!(text, "\n{title}\n\n{}", compared.table("workload, threads", unit, scale));
    }
    text.push('\n');
    push_verdicts(&mut text, &time, &memory);
    text
}

fn compare(results: &Results, measure: impl Fn(&Measured) -> f64) -> Comparison {
    let peers = allocator::ALL.iter().map(|peer| peer.name);
    let mut compared =
        Comparison::new(OURS, peers, results.cells.keys().cloned(), |cell, allocator| {
            results.runs(cell, allocator).iter().map(&measure).collect()
        });
    for row in &mut compared.rows {
        row.name = row.name.replace(" | ", ", ");
    }
    compared
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
