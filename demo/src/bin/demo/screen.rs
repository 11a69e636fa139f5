//! What a person sees: fits a terminal of 80 columns, but for log lines, which are as they are.

use std::io::{self, Write};

use alloc_trace_analysis::shorten;
use alloc_trace_cli::units;
use demo::jobs::{Answer, Input};

use crate::comparison::{Comparison, Figures};
use crate::recorded::Recorded;

const COLUMNS: usize = 80;

/// Call sites shown.
const SITES: usize = 8;

/// Shows every job's two ways.
pub(crate) fn comparisons(
    out: &mut dyn Write,
    input: &Input,
    comparisons: &[Comparison],
) -> io::Result<()> {
    writeln!(
        out,
        "The same jobs on the stack only and heap-heavy.\n{} are lexed, and each small job does {}.",
        units::counted(input.files.len() as u64, "Rust source"),
        units::counted(input.scale as u64, "round"),
    )?;
    for comparison in comparisons {
        let Comparison { job, point, stack_only, heap_heavy } = comparison;
        writeln!(out, "\n{job}")?;
        paragraph(out, point)?;
        answer(out, &stack_only.answer)?;
        writeln!(
            out,
            "  {:<12}{:>14}{:>16}{:>14}{:>14}",
            "", "heap events", "requested", "peak", "time"
        )?;
        way(out, "stack-only", stack_only, "")?;
        let times = heap_heavy.time_ns as f64 / stack_only.time_ns.max(1) as f64;
        way(out, "heap-heavy", heap_heavy, &format!("{times:.1}x"))?;
    }
    Ok(())
}

fn way(out: &mut dyn Write, name: &str, figures: &Figures, note: &str) -> io::Result<()> {
    let line = format!(
        "  {name:<12}{:>14}{:>16}{:>14}{:>14}  {note}",
        units::count(figures.heap_events),
        units::bytes(figures.requested_bytes),
        units::bytes(figures.peak_bytes),
        units::duration(figures.time_ns),
    );
    writeln!(out, "{}", line.trim_end())
}

fn answer(out: &mut dyn Write, answer: &Answer) -> io::Result<()> {
    paragraph(out, &format!("Answer, both ways: {answer}"))
}

/// Writes a text in lines that fit; a word that is longer than a line is broken.
fn paragraph(out: &mut dyn Write, text: &str) -> io::Result<()> {
    const ROOM: usize = COLUMNS - 2;
    let mut line = String::new();
    for word in text.split_whitespace() {
        let mut word = word;
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > ROOM {
            writeln!(out, "  {line}")?;
            line.clear();
        }
        while let Some((end, _)) = word.char_indices().nth(ROOM) {
            let (part, rest) = word.split_at(end);
            writeln!(out, "  {part}")?;
            word = rest;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(out, "  {line}")
}

/// Shows what was recorded.
pub(crate) fn recorded(out: &mut dyn Write, recorded: &Option<Recorded>) -> io::Result<()> {
    let Some(Recorded { path, lines, summary }) = recorded else {
        return writeln!(
            out,
            "\nThe environment has this process recorded; that recording has it all."
        );
    };
    writeln!(out, "\nThe first heap events of lexing through token trees, as tracing events:")?;
    for line in lines {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "\nWhere the most bytes were requested, all jobs and both ways together:")?;
    writeln!(out, "{:>11}{:>11}{:>11}  call site", "requests", "requested", "peak")?;
    // What only frees has nothing to show.
    let asking = summary.sites.iter().filter(|site| site.figures.requests() > 0);
    for site in asking.take(SITES) {
        let figures = &site.figures;
        writeln!(
            out,
            "{:>11}{:>11}{:>11}  {}",
            units::count(figures.requests()),
            units::bytes(figures.allocated_bytes),
            units::bytes(figures.peak_bytes),
            shorten(&site.site.function, COLUMNS - 35),
        )?;
    }
    writeln!(
        out,
        "\n{} heap events of all jobs are recorded in {}\nRead on with: cargo run --release -p \
         alloc-trace-cli -- report {}",
        units::count(summary.total.events),
        path.display(),
        path.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_fits_whatever_its_words_are() {
        let text = format!("{} {} end", "word ".repeat(40), "x".repeat(200));
        let mut out = Vec::new();
        paragraph(&mut out, &text).expect("memory");
        let out = String::from_utf8(out).expect("text");
        assert!(out.lines().all(|line| line.chars().count() <= COLUMNS), "{out}");
        let letters = |text: &str| text.chars().filter(|letter| letter.is_alphabetic()).count();
        assert_eq!(letters(&out), letters(&text));
    }
}
