//! One measure of several rows (workloads, programs) under several peers, and ours among them.

use std::fmt::Write;

use crate::statistics::{Spread, geometric_mean};

/// A measure of everything that was run.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// What ours is called.
    pub ours: &'static str,
    /// The peers that were run, in the order of the columns.
    pub peers: Vec<&'static str>,
    /// The rows, in the order of the table.
    pub rows: Vec<Row>,
}

/// One workload or program.
#[derive(Debug, Clone)]
pub struct Row {
    /// What the table calls it.
    pub name: String,
    /// Ours, in the measure's unit.
    pub ours: Spread,
    /// Ours in relation to each peer's; none where a peer has no figure.
    pub ratios: Vec<Option<Spread>>,
}

impl Row {
    /// The best peer of this row, by its index, and ours in relation to it.
    #[must_use]
    pub fn best(&self) -> Option<(usize, Spread)> {
        let ratios = self.ratios.iter().enumerate();
        let some = ratios.filter_map(|(peer, ratio)| Some((peer, (*ratio)?)));
        some.max_by(|a, b| a.1.median.total_cmp(&b.1.median))
    }
}

impl Comparison {
    /// Compares the values of each row and allocator, which are given round by round; empty where
    /// there are none. Rows and peers without any are left out.
    pub fn new(
        ours: &'static str,
        peers: impl IntoIterator<Item = &'static str>,
        rows: impl IntoIterator<Item = String>,
        values: impl Fn(&str, &str) -> Vec<f64>,
    ) -> Self {
        let mut peers: Vec<_> = peers.into_iter().filter(|peer| *peer != ours).collect();
        let mut compared = Vec::new();
        for name in rows {
            let of_ours = values(&name, ours);
            if of_ours.is_empty() {
                continue;
            }
            let ratios = peers.iter().map(|peer| {
                let theirs = values(&name, peer);
                (!theirs.is_empty()).then(|| Spread::of_ratios(&of_ours, &theirs))
            });
            let ratios = ratios.collect();
            compared.push(Row { name, ours: Spread::of(&of_ours), ratios });
        }
        let has_any: Vec<_> = (0..peers.len())
            .map(|peer| compared.iter().any(|row: &Row| row.ratios[peer].is_some()))
            .collect();
        for row in &mut compared {
            let mut kept = has_any.iter();
            row.ratios.retain(|_| kept.next().copied().unwrap_or(false));
        }
        let mut kept = has_any.iter();
        peers.retain(|_| kept.next().copied().unwrap_or(false));
        Self { ours, peers, rows: compared }
    }

    /// The geometric mean of ours in relation to a peer's, over the rows that it has.
    #[must_use]
    pub fn mean_to(&self, peer: usize) -> f64 {
        let ratios = self.rows.iter().filter_map(|row| row.ratios[peer]);
        geometric_mean(ratios.map(|ratio| ratio.median))
    }

    /// The geometric mean of ours in relation to the best peer of each row.
    #[must_use]
    pub fn mean_to_best(&self) -> f64 {
        let best = self.rows.iter().filter_map(Row::best);
        geometric_mean(best.map(|(_, ratio)| ratio.median))
    }

    /// The peer in relation to which ours does worst over all rows that all peers have; none
    /// without peers. A peer that lacks a row (which it did not survive) is not it.
    #[must_use]
    pub fn best_all_round(&self) -> Option<usize> {
        let whole = |peer: &usize| self.rows.iter().all(|row| row.ratios[*peer].is_some());
        (0..self.peers.len())
            .filter(whole)
            .max_by(|a, b| self.mean_to(*a).total_cmp(&self.mean_to(*b)))
    }

    /// The table, in Markdown: ours in a unit that is so many of the measure's, its relation to each
    /// peer, and to the best of them with the interval.
    #[must_use]
    pub fn table(&self, head: &str, unit: &str, scale: f64) -> String {
        let mut text = format!("| {head} | {unit} |");
        for peer in &self.peers {
            let _ = write!(text, " {peer} |");
        }
        text.push_str(" best peer |\n|---|---:|");
        text.push_str(&"---:|".repeat(self.peers.len() + 1));
        for row in &self.rows {
            let _ = write!(text, "\n| {} | {} |", row.name, figure(row.ours.median / scale));
            for ratio in &row.ratios {
                let _ = match ratio {
                    Some(ratio) => write!(text, " {:.2} |", ratio.median),
                    None => write!(text, " – |"),
                };
            }
            if let Some((peer, Spread { low, median, high })) = row.best() {
                let peer = self.peers[peer];
                let _ = write!(text, " {median:.2} ({low:.2}–{high:.2}) {peer} |");
            }
        }
        text.push_str("\n| **geometric mean** | |");
        for peer in 0..self.peers.len() {
            let _ = write!(text, " **{:.2}** |", self.mean_to(peer));
        }
        let _ = writeln!(text, " **{:.2}** |", self.mean_to_best());
        text
    }
}

/// A number with three digits that matter.
fn figure(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// One line that says whether what was aimed at holds.
#[must_use]
pub fn verdict(what: &str, value: f64, limit: f64) -> String {
    let holds = if value <= limit { "holds" } else { "**falls short**" };
    format!("- {what}: {value:.2}, at most {limit:.2}: {holds}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared() -> Comparison {
        let rows = ["a", "b"].map(str::to_owned);
        Comparison::new("ours", ["ours", "fast", "absent", "fails"], rows, |row, who| {
            match (row, who) {
                (_, "ours") => vec![2.0, 2.0, 4.0],
                ("a", "fast") => vec![1.0, 1.0, 1.0],
                ("b", "fast") => vec![4.0, 4.0, 8.0],
                ("a", "fails") => vec![0.1, 0.1, 0.1],
                _ => Vec::new(),
            }
        })
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let compared = compared();
        assert_eq!(compared.peers, ["fast", "fails"]);
        assert_eq!(compared.rows[0].ratios[0].map(|ratio| ratio.median), Some(2.0));
        assert_eq!(
            compared.rows[1].ratios,
            [Some(Spread { low: 0.5, median: 0.5, high: 0.5 }), None]
        );
        assert!((compared.mean_to(0) - 1.0).abs() < 1e-12);
        assert_eq!(compared.rows[0].best().map(|(peer, _)| peer), Some(1));
    }

    #[test]
    fn who_lacks_a_row_is_not_best_all_round() {
        assert_eq!(compared().best_all_round(), Some(0));
    }

    #[test]
    fn a_table_has_a_line_for_each_row() {
        let table = compared().table("row", "ns", 1.0);
        assert!(
            table.starts_with(
                "| row | ns | fast | fails | best peer |\n|---|---:|---:|---:|---:|\n"
            )
        );
        assert!(table.contains("\n| b | 2.00 | 0.50 | – | 0.50 (0.50–0.50) fast |\n"), "{table}");
    }
}
