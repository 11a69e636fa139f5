//! `alloc-trace advise`: what could leave the heap, or use it less.

use std::io::{self, Write};
use std::process::ExitCode;

use alloc_trace_analysis::{Advice, CallSite, Evidence, Finding, Rule, Thresholds};

use crate::args::AdviseArguments;
use crate::error::CommandError;
use crate::json;
use crate::open;
use crate::progress::Progress;
use crate::style::Style;
use crate::table::{from_the_back, from_the_front};
use crate::text::{self, short_path, wrap, write_heading};
use crate::units::{bytes, count, counted, duration};
use crate::warnings;

/// How many findings of a rule are shown unless the user says otherwise.
const FINDINGS: usize = 5;

pub(crate) fn run(arguments: &AdviseArguments) -> Result<ExitCode, CommandError> {
    let recording = open::recording(&arguments.file)?;
    let mut output = arguments.reading.open_output()?;
    let options = arguments.reading.options();
    let thresholds = Thresholds::default().min_blocks(arguments.min_blocks);
    let progress = Progress::reading(&recording);
    let mut advice = Advice::of(&recording, options, thresholds)?;
    drop(progress);
    let rules: Vec<Rule> = match arguments.rule.as_slice() {
        [] => Rule::ALL.to_vec(),
        wanted => wanted.iter().map(|name| name.rule()).collect(),
    };
    advice.findings.retain(|finding| rules.contains(&finding.rule));
    warnings::print(&arguments.file, &warnings::of_state(&advice.state));
    if arguments.json {
        if let Some(top) = arguments.top {
            let mut given = (Rule::Stack, 0);
            advice.findings.retain(|finding| {
                given = if given.0 == finding.rule {
                    (given.0, given.1 + 1)
                } else {
                    (finding.rule, 1)
                };
                given.1 <= top
            });
        }
        output.write(|out| {
            json::write_pretty(out, &advice)?;
            writeln!(out)
        })?;
    } else {
        let top = arguments.top.unwrap_or(FINDINGS);
        let (columns, style) = (output.columns, output.style);
        output.write(|out| write_text(out, &advice, &rules, top, columns, style))?;
    }
    output.finish()?;
    warnings::print_names(&advice.state.symbol_problems);
    Ok(ExitCode::SUCCESS)
}

fn write_text(
    out: &mut dyn Write,
    advice: &Advice,
    rules: &[Rule],
    top: usize,
    columns: usize,
    style: Style,
) -> io::Result<()> {
    let mut first = true;
    let mut gap =
        |out: &mut dyn Write| if std::mem::take(&mut first) { Ok(()) } else { writeln!(out) };
    if !advice.backtraces && rules.contains(&Rule::Stack) {
        gap(out)?;
        let text = "This recording has no backtraces: whose blocks they are, and what could live on \
                    the stack, cannot be told. Record without stacks=off or --no-stacks.";
        write_paragraph(out, text, "", columns)?;
    }
    for &rule in Rule::ALL.iter().filter(|rule| rules.contains(rule)) {
        let found: Vec<&Finding> =
            advice.findings.iter().filter(|finding| finding.rule == rule).collect();
        if found.is_empty() {
            continue;
        }
        gap(out)?;
        let shown = match found.len() {
            all if all > top => format!("{top} of {}", count(all as u64)),
            all => count(all as u64),
        };
        write_heading(out, &format!("{} ({shown})", heading(rule)), columns, style)?;
        for finding in found.into_iter().take(top) {
            write_finding(out, finding, columns, style)?;
        }
        if rule == Rule::Stack {
            writeln!(out)?;
            let note = "A function that returned and was called again from the same place, with no \
                        heap event in between that shows it, counts as one activation.";
            for line in wrap(note, columns) {
                writeln!(out, "{}", style.faint(line))?;
            }
        }
    }
    if advice.findings.is_empty() {
        gap(out)?;
        writeln!(
            out,
            "Nothing found by {}.",
            if rules.len() == 1 { "this rule" } else { "these rules" }
        )?;
    }
    Ok(())
}

/// What a rule's findings have in common.
pub(crate) const fn heading(rule: Rule) -> &'static str {
    match rule {
        Rule::Stack => "Could live on the stack",
        Rule::Growth => "Grow by reallocation",
        Rule::Temporaries => "The same buffer again and again",
        Rule::LateDrops => "Freed late",
        Rule::Leaks => "Never freed",
        Rule::SmallBoxes => "Many small blocks",
        Rule::RemoteFrees => "Freed by other threads",
        _ => "Other",
    }
}

fn write_finding(
    out: &mut dyn Write,
    finding: &Finding,
    columns: usize,
    style: Style,
) -> io::Result<()> {
    let site = &finding.site;
    writeln!(out, "\n  {}", text::function(&site.function, columns.saturating_sub(2)))?;
    if let Some(place) = place(site) {
        writeln!(out, "  {}", style.faint(from_the_back(&place, columns.saturating_sub(2))))?;
    }
    write_paragraph(out, &evidence(finding, columns.saturating_sub(4)), "    ", columns)?;
    write_paragraph(out, &format!("→ {}", finding.remedy), "    ", columns)
}

/// Where a call site is, as a person reads it.
pub(crate) fn place(site: &CallSite) -> Option<String> {
    let file = short_path(site.file.as_deref()?);
    Some(match site.line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    })
}

/// Writes a text in lines that begin with `indent`; no word is longer than a line.
fn write_paragraph(
    out: &mut dyn Write,
    text: &str,
    indent: &str,
    columns: usize,
) -> io::Result<()> {
    for line in wrap(text, columns.saturating_sub(indent.len())) {
        writeln!(out, "{}", from_the_front(&format!("{indent}{line}"), columns))?;
    }
    Ok(())
}

/// What a finding rests on, in a sentence; no function's name in it is longer than `columns`.
pub(crate) fn evidence(finding: &Finding, columns: usize) -> String {
    let blocks = counted(finding.blocks, "block");
    let saved = format!("{} and {}", counted(finding.events, "event"), bytes(finding.bytes));
    match &finding.evidence {
        Evidence::Stack { min_size, max_size, enclosed, at_once, frame, in_frame, .. } => {
            let size = if min_size == max_size {
                bytes(*max_size)
            } else {
                format!("{} to {}", bytes(*min_size), bytes(*max_size))
            };
            let enclosed = if *enclosed == finding.blocks {
                "each".to_owned()
            } else {
                format!("{} of them", count(*enclosed))
            };
            let others = match finding.blocks.saturating_sub(*in_frame) {
                0 => "",
                _ => " (or another caller)",
            };
            let saves = if finding.evidence.is_handed_on() { "would save" } else { "saves" };
            format!(
                "{blocks} of {size}, at most {} at a time, {enclosed} within one activation of {}\
                 {others}: {saves} {saved}",
                count(*at_once),
                text::function(frame, columns),
            )
        }
        Evidence::Growth {
            grown,
            moves,
            capacity_50,
            capacity_90,
            capacity_100,
            reserve,
            never_shrunk,
            never_shrunk_bytes,
            ..
        } => {
            let both_sides = reserve.map_or_else(String::new, |reserve| {
                let more = match reserve.held_bytes {
                    0 => "take no more".to_owned(),
                    held => format!("take up to {} more at a time", bytes(held)),
                };
                format!(
                    "; room for {} from the beginning would save {} and copies of up to {}, and \
                     {more}",
                    bytes(reserve.capacity),
                    counted(reserve.reallocations, "reallocation"),
                    bytes(reserve.copied_bytes)
                )
            });
            let kept = match never_shrunk {
                0 => String::new(),
                blocks => format!(
                    "; {} of {} stayed as large as they had grown",
                    counted(*blocks, "block"),
                    bytes(*never_shrunk_bytes)
                ),
            };
            format!(
                "{} grew in {}, {} of them by moving; they grew to {} (half), {} (90 %), {} (all): \
                 copies of up to {}{both_sides}{kept}",
                counted(*grown, "block"),
                counted(finding.events, "reallocation"),
                count(*moves),
                bytes(*capacity_50),
                bytes(*capacity_90),
                bytes(*capacity_100),
                bytes(finding.bytes),
            )
        }
        Evidence::Temporaries { size, of_that_size, max_size, repeats } => {
            let sizes = if of_that_size.saturating_mul(10) >= finding.blocks.saturating_mul(9) {
                format!("mostly {}", bytes(*size))
            } else {
                format!("up to {}", bytes(*max_size))
            };
            format!(
                "{blocks} of {sizes}; {} times the one before was freed already: saves {saved}",
                count(*repeats)
            )
        }
        Evidence::LateDrops { late, least_idle_ns, span: Some(span) } => {
            let left = match span.never_freed {
                0 => String::new(),
                all if all == *late => ", to the end of the recording".into(),
                left => format!(", {} of them to the end of the recording", count(left)),
            };
            format!(
                "{} of {} made in the span {}, which lasted {} at most, lived on for {} or more \
                 after its end{left}: {} on average",
                counted(*late, "block"),
                count(finding.blocks),
                span.name,
                duration(span.longest_ns),
                duration(*least_idle_ns),
                bytes(span.held_bytes)
            )
        }
        Evidence::LateDrops { late, least_idle_ns, span: None } => format!(
            "{} of {} freed {} or more after the last request here: would free {} earlier",
            counted(*late, "block"),
            count(finding.blocks),
            duration(*least_idle_ns),
            bytes(finding.bytes)
        ),
        Evidence::Leaks { never_freed, .. } => format!(
            "{} of {} still there at the end: {}",
            counted(*never_freed, "block"),
            count(finding.blocks),
            bytes(finding.bytes)
        ),
        Evidence::SmallBoxes { min_size, size, peak_blocks } => format!(
            "{} of {} at a time; pointers to them and rounding up to 16 bytes take {} more, and \
             each is an allocation and a free: {}",
            counted(*peak_blocks, "block"),
            if min_size == size {
                bytes(*size)
            } else {
                format!("{} to {}", bytes(*min_size), bytes(*size))
            },
            bytes(finding.bytes),
            counted(finding.events, "event")
        ),
        Evidence::RemoteFrees { remote, freed } => format!(
            "{} of {} that were freed, {} in all",
            counted(*remote, "block"),
            count(*freed),
            bytes(finding.bytes)
        ),
        _ => blocks,
    }
}
