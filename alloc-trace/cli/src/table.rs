//! Tables: figures to the left, and last one text that takes what the width leaves. Where that is too
//! little, the text stands above its figures, and these in as many lines as they need.

use std::io::{self, Write};

use crate::printable::printable;
use crate::style::Style;

/// A table of figures about things that have names.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    figures: Vec<String>,
    name: String,
    /// Further lines below the name.
    details: Vec<String>,
}

/// No name is cut to less.
const NARROWEST_NAME: usize = 16;

impl Table {
    /// The headings of the figures, and last that of the names.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(
        &mut self,
        figures: Vec<String>,
        name: String,
        details: impl IntoIterator<Item = String>,
    ) {
        self.rows.push(Row { figures, name, details: details.into_iter().collect() });
    }

    /// Writes the table in `columns` columns; `shorten` makes a name or a detail fit.
    pub(crate) fn write(
        &self,
        out: &mut dyn Write,
        columns: usize,
        style: Style,
        shorten: impl Fn(&str, usize) -> String,
    ) -> io::Result<()> {
        let Some((name_heading, headings)) = self.headings.split_last() else { return Ok(()) };
        let width = |index: usize| {
            let cells = self.rows.iter().filter_map(|row| row.figures.get(index));
            let heading = headings.get(index).map_or(0, |heading| heading.len());
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(heading)
        };
        let widths: Vec<usize> = (0..headings.len()).map(width).collect();
        let taken: usize = widths.iter().map(|width| width + 2).sum();
        if columns < taken + NARROWEST_NAME {
            return self.write_stacked(out, columns, &widths, style, shorten);
        }
        let room = columns - taken;
        let mut line = String::new();
        for (heading, width) in headings.iter().zip(&widths) {
            line.push_str(&format!("{heading:>width$}  "));
        }
        writeln!(out, "{}", style.faint(format!("{line}{name_heading}").trim_end()))?;
        for row in &self.rows {
            line.clear();
            for (cell, width) in row.figures.iter().zip(&widths) {
                line.push_str(&format!("{cell:>width$}  "));
            }
            writeln!(out, "{}", format!("{line}{}", shorten(&row.name, room)).trim_end())?;
            for detail in &row.details {
                let detail = from_the_back(detail, room);
                writeln!(out, "{:taken$}{}", "", style.faint(detail))?;
            }
        }
        Ok(())
    }

    /// Each name on a line of its own, above its figures.
    fn write_stacked(
        &self,
        out: &mut dyn Write,
        columns: usize,
        widths: &[usize],
        style: Style,
        shorten: impl Fn(&str, usize) -> String,
    ) -> io::Result<()> {
        let Some((name_heading, headings)) = self.headings.split_last() else { return Ok(()) };
        writeln!(out, "{}", style.faint(name_heading))?;
        for line in stacked(headings, widths, columns) {
            writeln!(out, "{}", style.faint(line))?;
        }
        for row in &self.rows {
            writeln!(out, "{}", shorten(&row.name, columns))?;
            for detail in &row.details {
                let detail = from_the_back(detail, columns.saturating_sub(INDENT));
                writeln!(out, "{:INDENT$}{}", "", style.faint(detail))?;
            }
            for line in stacked(&row.figures, widths, columns) {
                writeln!(out, "{line}")?;
            }
        }
        Ok(())
    }
}

/// What stands below a name is set in by so much.
const INDENT: usize = 2;

/// Cells in as few lines as they fit in; at least one in each.
fn stacked(cells: &[impl AsRef<str>], widths: &[usize], columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut length = 0;
    for (cell, width) in cells.iter().zip(widths) {
        if length > 0 && length + INDENT + width > columns {
            lines.push(String::new());
            length = 0;
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(&format!("{:INDENT$}{:>width$}", "", cell.as_ref()));
        }
        length += INDENT + width;
    }
    lines
}

/// Keeps the end of a text that is too long: of a path that is what tells most.
pub(crate) fn from_the_back(text: &str, columns: usize) -> String {
    let text = printable(text);
    let length = text.chars().count();
    if length <= columns {
        return text.into_owned();
    }
    let kept: String = text.chars().skip(length + 1 - columns.max(1)).collect();
    format!("…{kept}")
}

/// Keeps the beginning of a text that is too long.
pub(crate) fn from_the_front(text: &str, columns: usize) -> String {
    let text = printable(text);
    if text.chars().count() <= columns {
        return text.into_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_to_the_right_and_names_take_the_rest() {
        let mut table = Table::new(&["bytes", "name"]);
        table.row(vec!["1".into()], "short".into(), None);
        table.row(vec!["1234567".into()], "x".repeat(90), Some("/a/long/path".into()));
        let mut out = Vec::new();
        table.write(&mut out, 40, Style::plain(), from_the_front).expect("memory");
        let text = String::from_utf8(out).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "  bytes  name");
        assert_eq!(lines[1], "      1  short");
        assert_eq!(lines[2].chars().count(), 40);
        assert_eq!(lines[3], "         /a/long/path");
    }

    #[test]
    fn where_a_name_has_no_room_its_figures_stand_below_it() {
        let mut table = Table::new(&["allocated", "requests", "peak", "call site"]);
        let figures = ["1023 KiB", "1,234,567", "999 MiB"].map(str::to_owned).to_vec();
        table.row(figures, "app::load".into(), Some("src/main.rs:7".into()));
        let printed = |columns| {
            let mut out = Vec::new();
            table.write(&mut out, columns, Style::plain(), from_the_front).expect("memory");
            String::from_utf8(out).expect("text")
        };
        let expected = "\
call site
  allocated   requests     peak
app::load
  src/main.rs:7
   1023 KiB  1,234,567  999 MiB
";
        assert_eq!(printed(40), expected);
        let narrow = printed(24);
        assert!(narrow.lines().all(|line| line.chars().count() <= 24), "{narrow}");
        assert!(narrow.contains("\n  999 MiB\n"), "{narrow}");
    }

    #[test]
    fn texts_are_cut_at_either_end() {
        assert_eq!(from_the_back("abcdef", 4), "…def");
        assert_eq!(from_the_front("abcdef", 4), "abc…");
        assert_eq!(from_the_back("abc", 3), "abc");
    }
}
