//! The tables: what each workload costs under each allocator, as ratios to ours.

use std::fmt::Write;

use super::results::Results;
use crate::allocator::{self, LEAN, OURS};
use crate::measured::Measured;
use crate::statistics::{Spread, geometric_mean};

/// One cell: a workload with a number of threads.
struct Row<'a> {
    name: &'a str,
    ours: Spread,
    /// Each peer, and ours in relation to it.
    peers: Vec<(&'static str, Spread)>,
}

impl Row<'_> {
    /// The peer that is best here: the one in relation to which ours is slowest.
    fn best(&self) -> Option<(&'static str, Spread)> {
        self.peers.iter().copied().max_by(|a, b| a.1.median.total_cmp(&b.1.median))
    }

    fn to(&self, peer: &str) -> Option<Spread> {
        self.peers.iter().find(|(name, _)| *name == peer).map(|(_, ratio)| *ratio)
    }
}

/// The rows of a measure.
fn rows(results: &Results, measure: fn(&Measured) -> f64) -> Vec<Row<'_>> {
    let values = |cell: &str, allocator: &str| -> Vec<f64> {
        results.runs(cell, allocator).iter().map(measure).collect()
    };
    let names = results.cells.keys().filter(|cell| !results.runs(cell, OURS).is_empty());
    names
        .map(|name| {
            let ours = values(name, OURS);
            let peers = allocator::ALL.iter().filter(|peer| peer.name != OURS);
            let peers = peers.filter_map(|peer| {
                let theirs = values(name, peer.name);
                let paired = !theirs.is_empty();
                paired.then(|| (peer.name, Spread::of_ratios(&ours, &theirs)))
            });
            Row { name, ours: Spread::of(&ours), peers: peers.collect() }
        })
        .collect()
}

/// The geometric mean of ours in relation to a peer, over the rows that it has.
fn mean_to(rows: &[Row<'_>], peer: &str) -> Option<f64> {
    let ratios: Vec<_> = rows.iter().filter_map(|row| row.to(peer)).collect();
    (!ratios.is_empty()).then(|| geometric_mean(ratios.iter().map(|ratio| ratio.median)))
}

/// All tables, as Markdown.
#[must_use]
pub fn tables(results: &Results) -> String {
    let mut text = format!("{}\n", results.machine);
    let time = rows(results, Measured::ns_per_operation);
    let memory = rows(results, |run| run.peak_resident_bytes as f64);
    push_table(&mut text, "Time: CoreAlloc's in relation to each peer's", "ns", &time, 1.0);
    push_table(
        &mut text,
        "Peak resident memory: CoreAlloc's in relation to each peer's",
        "MiB",
        &memory,
        1024.0 * 1024.0,
    );
    push_verdicts(&mut text, &time, &memory);
    text
}

fn push_table(text: &mut String, title: &str, unit: &str, rows: &[Row<'_>], scale: f64) {
    let peers: Vec<_> = allocator::ALL
        .iter()
        .map(|peer| peer.name)
        .filter(|peer| rows.iter().any(|row| row.to(peer).is_some()))
        .collect();
    let _ = writeln!(
        text,
        "\n{title}\n\n| workload, threads | {unit} | {} | best peer |",
        peers.join(" | ")
    );
    let _ = writeln!(text, "|---|---:|{}---:|", "---:|".repeat(peers.len()));
    for row in rows {
        let _ =
            write!(text, "| {} | {:.2} |", row.name.replace(" | ", ", "), row.ours.median / scale);
        for peer in &peers {
            let _ = match row.to(peer) {
                Some(ratio) => write!(text, " {:.2} |", ratio.median),
                None => write!(text, " |"),
            };
        }
        if let Some((name, ratio)) = row.best() {
            let Spread { low, median, high } = ratio;
            let _ = write!(text, " {median:.2} ({low:.2}-{high:.2}) {name} |");
        }
        text.push('\n');
    }
    let _ = write!(text, "| geometric mean | |");
    for peer in &peers {
        let _ = write!(text, " {:.2} |", mean_to(rows, peer).unwrap_or(1.0));
    }
    let best = rows.iter().filter_map(Row::best).map(|(_, ratio)| ratio.median);
    let _ = writeln!(text, " {:.2} |", geometric_mean(best));
}

/// What was aimed at, and what holds.
fn push_verdicts(text: &mut String, time: &[Row<'_>], memory: &[Row<'_>]) {
    text.push('\n');
    let mut verdict = |what: &str, value: f64, limit: f64| {
        let holds = if value <= limit { "holds" } else { "FALLS SHORT" };
        let _ = writeln!(text, "- {what}: {value:.2}, at most {limit:.2}: {holds}");
    };
    let peers = allocator::ALL.iter().map(|peer| peer.name).filter(|name| *name != OURS);
    let means = peers.filter_map(|peer| Some((peer, mean_to(time, peer)?)));
    if let Some((peer, mean)) = means.max_by(|a, b| a.1.total_cmp(&b.1)) {
        verdict(&format!("time against the best all-round peer, {peer}"), mean, 0.80);
    }
    let best: Vec<_> = time.iter().filter_map(|row| Some((row.name, row.best()?))).collect();
    let mean = geometric_mean(best.iter().map(|(_, (_, ratio))| ratio.median));
    verdict("time against the best peer of each workload", mean, 0.95);
    if let Some(mean) = mean_to(memory, LEAN) {
        verdict(&format!("peak resident memory against {LEAN}"), mean, 1.00);
    }
    let above: Vec<_> = best.iter().filter(|(_, (_, ratio))| ratio.low > 1.15).collect();
    let _ = writeln!(text, "- workloads above 1.15 of their best peer: {}", above.len());
    for (name, (peer, ratio)) in above {
        let name = name.replace(" | ", ", ");
        let _ = writeln!(
            text,
            "  - {name}: {:.2} ({:.2}-{:.2}) of {peer}",
            ratio.median, ratio.low, ratio.high
        );
    }
}
