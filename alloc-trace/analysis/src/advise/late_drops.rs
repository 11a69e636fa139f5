//! Blocks that are freed long after anything happened at their call site, or long after the span that they
//! were made in.
//!
//! Told where that is a part of what the program held at its peak: see [`PEAK_PART`]. A free is late where the
//! call site's last request lies at least half of the recording before it, and [`IDLE_NS`]: a list that is filled
//! and then read asks no more, and in a program that runs for a moment nothing tells that from one that is idle.
//! Fewer blocks than make a case are told of only where it is three quarters.
//!
//! It is late, too, where the block was made in a `tracing` span, its life goes on for at least [`SPANS`] times
//! the span's own after that had closed, and it was never reallocated since. What is never freed lives to the
//! end of the recording. What a span makes for the one around it is no such case: a block that is freed in the
//! span around the one that it outlived, or in there in a span of another kind, is late only after half of the
//! recording. Of the spans that were over the outermost counts: a request's, and not that of a step of it. What
//! matters is what was held at a time: on average over the recording.
//!
//! Whether a block is read meanwhile is not recorded: a cache, whose blocks are meant to outlive what made
//! them, looks the same.

use alloc_trace_format::Stamp;

use super::site::{Context, SiteEvidence};
use super::{Evidence, OutlivedSpan, Rule, Verdict};
use crate::span_lives::Outlived;

/// Less than this is not worth an earlier drop.
const BYTES: u64 = 4096;
/// Nor is less than this part of what the program held at its peak.
const PEAK_PART: u64 = 20;
/// What is freed within less after its call site's last request may have been read meanwhile.
const IDLE_NS: u64 = 100_000_000;
/// A block lives long past its span where it does for so many times the span's own life.
const SPANS: u64 = 10;

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    let least_bytes = BYTES.max(context.peak_bytes / PEAK_PART);
    let three_quarters = context.duration / 4 * 3;
    let is_long = |idle: Stamp| {
        let is_few = site.late < context.thresholds.min_blocks;
        (context.ns)(idle) >= IDLE_NS && (!is_few || idle >= three_quarters)
    };
    let least_idle =
        site.least_idle.filter(|&idle| site.late_bytes >= least_bytes && is_long(idle));
    let by_site = least_idle.map(|least_idle| {
        let least_idle_ns = (context.ns)(least_idle);
        (site.late_bytes, Evidence::LateDrops { late: site.late, least_idle_ns, span: None })
    });
    // A span says more than a call site, if it says it of as much.
    let by_span = past_span(site, context, least_bytes)
        .filter(|(bytes, _)| by_site.as_ref().is_none_or(|(of_site, _)| bytes >= of_site));
    let (bytes, evidence) = by_span.or(by_site)?;
    Some(Verdict {
        rule: Rule::LateDrops,
        bytes,
        events: 0,
        evidence,
        remedy: "if nothing reads it any more, end its life earlier: drop(…), a block around its \
                 use, or mem::take"
            .into(),
    })
}

/// Of the kinds of span that blocks of a call site outlived, that past which they held most.
fn past_span(
    site: &SiteEvidence,
    context: &Context<'_>,
    least_bytes: u64,
) -> Option<(u64, Evidence)> {
    let kinds = site.past_spans.iter();
    let held = kinds.map(|(&kind, past)| (past.held_bytes(context.duration), kind, past));
    let (held_bytes, kind, past) =
        held.max_by_key(|&(held, kind, _)| (held, std::cmp::Reverse(kind)))?;
    let least_past = past.least_past.filter(|_| held_bytes >= least_bytes)?;
    let span = OutlivedSpan {
        name: (context.span)(kind),
        longest_ns: (context.ns)(past.longest_life),
        never_freed: past.never_freed,
        held_bytes,
    };
    let least_idle_ns = (context.ns)(least_past);
    Some((past.bytes, Evidence::LateDrops { late: past.blocks, least_idle_ns, span: Some(span) }))
}

/// Whether a block's life went on for long after its span; `half` is half of the recording.
pub(super) fn is_late(outlived: Outlived, half: Stamp) -> bool {
    let Outlived { life, past, handed_on, .. } = outlived;
    past > 0 && past >= life.saturating_mul(SPANS) && (!handed_on || past >= half)
}

/// Whether most of what lives long past its spans is never freed at all.
pub(super) fn is_mostly_left(evidence: &Evidence) -> bool {
    match evidence {
        Evidence::LateDrops { late, span: Some(span), .. } => span.never_freed * 2 > *late,
        _ => false,
    }
}
