//! What a page shows, as its script takes it: a description in JSON, and the figures in columns.

use std::path::Path;
use std::sync::Arc;

use alloc_trace_analysis::{Advice, Bin, CallSite, Intervals, Program, Row, Rule};
use serde::Serialize;

use super::encode::{self, Texts};
use crate::commands::advise;
use crate::text::short_path;
use crate::units::{count, counted};
use crate::warnings;

/// The description. Functions, files and names are numbers of [`Description::texts`].
#[derive(Debug, Serialize)]
struct Description<'a> {
    file: String,
    program: Option<&'a Program>,
    started_at_unix_ns: u64,
    duration_ns: u64,
    /// Whether it is of a part of the recording only.
    filtered: bool,
    events: u64,
    internal_events: u64,
    unmatched_frees: u64,
    inferred_frees: u64,
    warnings: Vec<String>,
    symbol_problems: Vec<String>,
    bin_ns: u64,
    /// The most that was resident in each bin that has a sample, as bin and bytes.
    resident: Vec<(u64, u64)>,
    markers: &'a [(Arc<str>, u64)],
    backtraces: bool,
    /// Function, file and line of each; where there is none, `null`.
    sites: Vec<(usize, Option<usize>, Option<u32>)>,
    functions: Vec<usize>,
    files: Vec<Option<usize>>,
    crates: Vec<Option<usize>>,
    /// Number and name; the row of all other threads has no number.
    threads: Vec<(Option<u32>, Option<usize>)>,
    spans: Vec<Option<(usize, usize, Option<usize>)>>,
    sizes: Vec<u64>,
    lifetimes: Vec<Option<u64>>,
    /// The callers and functions of the call tree's nodes; -1 for no caller.
    callers: Vec<i64>,
    nodes: Vec<usize>,
    advice: Vec<Group>,
    texts: Vec<Arc<str>>,
}

/// The findings of one rule.
#[derive(Debug, Serialize)]
struct Group {
    rule: Rule,
    heading: &'static str,
    findings: Vec<Found>,
}

#[derive(Debug, Serialize)]
struct Found {
    function: usize,
    place: Option<String>,
    evidence: String,
    remedy: String,
    blocks: u64,
    bytes: u64,
    events: u64,
}

/// No function's name is cut in a sentence of the page.
const COLUMNS: usize = 1_000;

/// Of one rule no more findings are in a page, and no more markers.
const MOST_FINDINGS: usize = 1_000;
const MOST_MARKERS: usize = 1_000;

/// Everything that a page shows, packed.
pub(super) fn pack(file: &Path, filtered: bool, intervals: &Intervals, advice: &Advice) -> Vec<u8> {
    let description = describe(file, filtered, intervals, advice);
    let description = serde_json::to_vec(&description).unwrap_or_default();
    let mut numbers = Vec::new();
    encode::bins(&mut numbers, &intervals.bins);
    encode::cells(&mut numbers, &intervals.sites);
    encode::cells(&mut numbers, &intervals.functions);
    encode::cells(&mut numbers, &intervals.files);
    encode::cells(&mut numbers, &intervals.crates);
    encode::cells(&mut numbers, &intervals.threads);
    encode::cells(&mut numbers, &intervals.spans);
    encode::cells(&mut numbers, &intervals.sizes);
    encode::cells(&mut numbers, &intervals.lifetimes);
    encode::cells(&mut numbers, &intervals.nodes);
    // Nothing can fail on the way to memory.
    encode::deflate(&description, &numbers).unwrap_or_default()
}

fn describe<'a>(
    file: &Path,
    filtered: bool,
    intervals: &'a Intervals,
    advice: &Advice,
) -> Description<'a> {
    let mut texts = Texts::default();
    let path = |texts: &mut Texts, path: &Arc<str>| texts.number(&Arc::from(short_path(path)));
    let sites = intervals.sites.iter().map(|row| {
        let CallSite { function, file, line } = &row.key;
        (texts.number(function), file.as_ref().map(|file| path(&mut texts, file)), *line)
    });
    let sites = sites.collect();
    let functions = intervals.functions.iter().map(|row| texts.number(&row.key)).collect();
    let files = intervals.files.iter();
    let files = files.map(|row| row.key.as_ref().map(|file| path(&mut texts, file))).collect();
    let crates = intervals.crates.iter();
    let crates = crates.map(|row| row.key.as_ref().map(|name| texts.number(name))).collect();
    let threads = intervals.threads.iter().map(|row| {
        let number = (row.parts == 1).then_some(row.key.thread);
        (number, row.key.name.as_ref().map(|name| texts.number(name)))
    });
    let threads = threads.collect();
    let spans = intervals.spans.iter().map(|row| {
        let span = row.key.as_ref()?;
        let fields = span.fields.as_ref().map(|fields| texts.number(fields));
        Some((texts.number(&span.name), texts.number(&span.target), fields))
    });
    let spans = spans.collect();
    let callers = intervals.nodes.iter();
    let callers = callers.map(|row| row.key.parent.map_or(-1, i64::from)).collect();
    let nodes = intervals.nodes.iter().map(|row| texts.number(&row.key.function)).collect();
    let advice_groups = groups(advice, &mut texts);
    Description {
        file: file.display().to_string(),
        program: intervals.program.as_ref(),
        started_at_unix_ns: intervals.started_at_unix_ns,
        duration_ns: intervals.state.duration_ns,
        filtered,
        events: intervals.bins.iter().map(Bin::events).sum(),
        internal_events: intervals.internal_events,
        unmatched_frees: intervals.unmatched_frees,
        inferred_frees: intervals.inferred_frees,
        warnings: warnings::of_state(&intervals.state)
            .into_iter()
            .chain(folded(intervals))
            .chain(left_out(intervals.markers.len(), findings_by_rule(advice)))
            .collect(),
        symbol_problems: warnings::of_symbols(&intervals.state.symbol_problems),
        bin_ns: intervals.bin_ns,
        resident: resident(intervals),
        markers: intervals.markers.get(..MOST_MARKERS).unwrap_or(&intervals.markers),
        backtraces: advice.backtraces,
        sites,
        functions,
        files,
        crates,
        threads,
        spans,
        sizes: intervals.sizes.iter().map(|row| row.key).collect(),
        lifetimes: intervals.lifetimes.iter().map(|row| row.key).collect(),
        callers,
        nodes,
        advice: advice_groups,
        texts: texts.texts,
    }
}

/// How many findings there are of each rule.
fn findings_by_rule(advice: &Advice) -> impl Iterator<Item = usize> {
    Rule::ALL
        .iter()
        .map(|&rule| advice.findings.iter().filter(|finding| finding.rule == rule).count())
}

/// What is said of markers and findings that are not in the page, given how many there are in all.
fn left_out(markers: usize, findings: impl Iterator<Item = usize>) -> Option<String> {
    let findings: usize = findings.map(|of_rule| of_rule.saturating_sub(MOST_FINDINGS)).sum();
    let what = [(markers.saturating_sub(MOST_MARKERS), "marker"), (findings, "finding")]
        .into_iter()
        .filter(|&(number, _)| number > 0)
        .map(|(number, noun)| counted(number as u64, noun));
    let what = listed(&what.collect::<Vec<_>>())?;
    Some(format!(
        "too many for a page, which is without the last {what}: `timeline --json` has all markers, and `advise` all findings"
    ))
}

/// What is said of parts that have no rows of their own.
fn folded(intervals: &Intervals) -> Option<String> {
    fn others<K>(rows: &[Row<K>], what: &str) -> Option<String> {
        let parts = rows.iter().map(|row| row.parts).filter(|&parts| parts > 1).max()?;
        Some(format!("{} {what}", count(u64::from(parts))))
    }
    let Intervals { sites, functions, files, crates, threads, spans, .. } = intervals;
    let folded = [
        others(sites, "call sites"),
        others(functions, "functions"),
        others(files, "files"),
        others(crates, "crates"),
        others(threads, "threads"),
        others(spans, "spans"),
    ];
    let folded: Vec<String> = folded.into_iter().flatten().collect();
    let named = listed(&folded)?;
    Some(format!(
        "too many for a page to show one by one: the smallest {named} have one row together each, \
         [other …], and in the flame graph nodes [smaller functions]"
    ))
}

/// Several things in a sentence: `a, b and c`; `None` where there is none.
fn listed(things: &[String]) -> Option<String> {
    let (last, others) = things.split_last()?;
    Some(if others.is_empty() { last.clone() } else { format!("{} and {last}", others.join(", ")) })
}

/// One sample a bin: a recording can have far more than a page has columns.
fn resident(intervals: &Intervals) -> Vec<(u64, u64)> {
    let mut by_bin: Vec<(u64, u64)> = Vec::new();
    for &(ns, bytes) in &intervals.resident {
        let bin = ns / intervals.bin_ns.max(1);
        match by_bin.last_mut() {
            Some((last, most)) if *last == bin => *most = bytes.max(*most),
            _ => by_bin.push((bin, bytes)),
        }
    }
    by_bin
}

fn groups(advice: &Advice, texts: &mut Texts) -> Vec<Group> {
    let groups = Rule::ALL.iter().map(|&rule| Group {
        rule,
        heading: advise::heading(rule),
        findings: advice
            .findings
            .iter()
            .filter(|finding| finding.rule == rule)
            .take(MOST_FINDINGS)
            .map(|finding| Found {
                function: texts.number(&finding.site.function),
                place: advise::place(&finding.site),
                evidence: advise::evidence(finding, COLUMNS),
                remedy: finding.remedy.clone(),
                blocks: finding.blocks,
                bytes: finding.bytes,
                events: finding.events,
            })
            .collect(),
    });
    groups.filter(|group| !group.findings.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_of_a_page_is_said() {
        let said = |markers, findings: [usize; 2]| left_out(markers, findings.into_iter());
        assert_eq!(said(MOST_MARKERS, [MOST_FINDINGS; 2]), None);
        let text = said(MOST_MARKERS + 7, [0, MOST_FINDINGS + 1]).expect("something");
        assert!(text.contains("the last 7 markers and 1 finding:"), "{text}");
        let text = said(0, [MOST_FINDINGS + 2, MOST_FINDINGS + 3]).expect("something");
        assert!(text.contains("the last 5 findings:"), "{text}");
        let text = said(MOST_MARKERS + 1, [0, 0]).expect("something");
        assert!(text.contains("the last 1 marker:"), "{text}");
    }
}
