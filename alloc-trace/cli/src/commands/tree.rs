//! `alloc-trace tree`: the call tree, from `main` inwards or from the call sites outwards.

use std::io::{self, Write};
use std::process::ExitCode;

use alloc_trace_analysis::{CallTreeWeights, Measure, Tree, TreeShape};

use crate::args::TreeArguments;
use crate::error::CommandError;
use crate::json;
use crate::measures::{self, value};
use crate::open;
use crate::progress::Progress;
use crate::style::Style;
use crate::text::{self, write_heading};
use crate::units::{duration, share};
use crate::warnings;

pub(crate) fn run(arguments: &TreeArguments) -> Result<ExitCode, CommandError> {
    let recording = open::recording(&arguments.file)?;
    let mut output = arguments.reading.open_output()?;
    let progress = Progress::reading(&recording);
    let weights = CallTreeWeights::of(&recording, arguments.reading.options())?;
    drop(progress);
    warnings::print(&arguments.file, &warnings::of_state(&weights.state));
    // A program leaves out for itself what it does not want.
    let least = arguments.min_share.unwrap_or(if arguments.json { 0.0 } else { 1.0 });
    let measure = measures::adding_up(arguments.measure.measure());
    let shape = TreeShape::default()
        .inverted(arguments.inverted)
        .measure(measure)
        .min_share(least / 100.0)
        .max_depth(arguments.depth.unwrap_or(u32::MAX));
    let tree = Tree::of(&weights, shape);
    if arguments.json {
        output.write(|out| {
            json::write(out, &tree)?;
            writeln!(out)
        })?;
    } else {
        let (columns, style) = (output.columns, output.style);
        output.write(|out| write_text(out, &tree, measure, columns, style))?;
    }
    output.finish()?;
    warnings::print_names(&weights.state.symbol_problems);
    Ok(ExitCode::SUCCESS)
}

/// The figures to the left of the tree, and the last of them, which a narrow terminal has no room for.
const FIGURES: usize = 9 + 1 + 7 + 1 + 9 + 2;
const OWN: usize = 1 + 9;
/// The mean, of a measure that has one.
const MEAN: usize = 1 + 9;
/// No function's name is cut to less.
const NARROWEST_NAME: usize = 16;
/// From so many columns on there is room for all of it.
const WIDE: usize = FIGURES + DEEPEST + NARROWEST_NAME;
/// No frame is indented further: what is below stands there, with its depth.
const DEEPEST: usize = 24;

fn write_text(
    out: &mut dyn Write,
    tree: &Tree,
    measure: Measure,
    columns: usize,
    style: Style,
) -> io::Result<()> {
    let whole = measure.of(&tree.total);
    let direction = if tree.inverted { "Callers" } else { "Call tree" };
    let heading =
        format!("{direction} by {}: {}", measures::phrase(measure), value(measure, whole));
    write_heading(out, &heading, columns, style)?;
    if tree.nodes.is_empty() {
        return writeln!(out, "Nothing to show.");
    }
    // Outwards, what a function asked for itself is at the beginning of each way.
    let own_heading = if tree.inverted { "" } else { "own" };
    let wide = WIDE + if measure == Measure::Lifetime { MEAN } else { 0 };
    let narrow = columns < wide;
    let own_column = |text: &str| if narrow { String::new() } else { format!(" {text:>9}") };
    // Of lifetimes the sum alone says little: many blocks, or such that live long.
    let has_mean = measure == Measure::Lifetime;
    let mean_column = |text: &str| if has_mean { format!(" {text:>9}") } else { String::new() };
    let figures = if narrow { FIGURES - OWN } else { FIGURES };
    let figures = figures + if has_mean { MEAN } else { 0 };
    let deepest = if narrow { 6 } else { DEEPEST };
    let heading = format!(
        "{:>9} {:>7}{}{}  function",
        "total",
        "",
        mean_column("mean"),
        own_column(own_heading)
    );
    writeln!(out, "{}", style.faint(heading))?;
    let lines = Lines::of(tree);
    for (node, line) in tree.nodes.iter().zip(&lines.0) {
        let inclusive = measure.of(&node.inclusive);
        let own = match measure.of(&node.own) {
            0 => String::new(),
            _ if tree.inverted => String::new(),
            own => value(measure, own),
        };
        let indent = line.indent(deepest);
        let room = columns.saturating_sub(figures + indent.chars().count()).max(NARROWEST_NAME - 3);
        writeln!(
            out,
            "{:>9} {:>7}{}{}  {}{}",
            value(measure, inclusive),
            share(inclusive, whole),
            mean_column(&duration(node.inclusive.mean_lifetime_ns())),
            own_column(&own),
            style.faint(&indent),
            text::function(&node.function, room),
        )?;
    }
    if narrow && !tree.inverted {
        // Or nobody would know that there is more to see.
        let note = format!("No room for the column `own`: it takes {wide} columns.");
        for line in text::wrap(&note, columns) {
            writeln!(out, "{}", style.faint(line))?;
        }
    }
    Ok(())
}

/// What stands to the left of a function.
#[derive(Debug, Clone, Default)]
struct Line {
    /// For each branching above: whether more of its branches follow further down.
    branches: Vec<bool>,
    /// Whether it is itself one of several.
    is_branch: bool,
}

impl Line {
    fn indent(&self, most: usize) -> String {
        let mut text = String::new();
        for (at, &more) in self.branches.iter().enumerate() {
            let last = at + 1 == self.branches.len();
            text.push_str(match (last && self.is_branch, more) {
                (true, true) => "├ ",
                (true, false) => "└ ",
                (false, true) => "│ ",
                (false, false) => "  ",
            });
        }
        let length = text.chars().count();
        if length <= most {
            return text;
        }
        let depth = format!("…{} ", self.branches.len());
        let kept = most - depth.chars().count();
        depth + &text.chars().skip(length - kept).collect::<String>()
    }
}

/// The lines of a tree. A function that is alone below another one stands right below it: only where
/// the ways part is there an indentation, or a deep tree would leave the page.
struct Lines(Vec<Line>);

impl Lines {
    fn of(tree: &Tree) -> Self {
        let mut children = vec![0_usize; tree.nodes.len() + 1];
        let slot = |parent: Option<u32>| parent.map_or(0, |parent| parent as usize + 1);
        for node in &tree.nodes {
            children[slot(node.parent)] += 1;
        }
        let mut seen = vec![0_usize; tree.nodes.len() + 1];
        let mut lines: Vec<Line> = Vec::with_capacity(tree.nodes.len());
        for node in &tree.nodes {
            let at = slot(node.parent);
            seen[at] += 1;
            let above = node.parent.map(|parent| lines[parent as usize].clone());
            let mut branches = above.unwrap_or_default().branches;
            let is_branch = children[at] > 1;
            if is_branch {
                branches.push(seen[at] < children[at]);
            }
            lines.push(Line { branches, is_branch });
        }
        Self(lines)
    }
}
