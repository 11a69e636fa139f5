//! Tables: figures to the right, one text to the left that takes what the width leaves.

use std::io::{self, Write};

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
        let room = columns.saturating_sub(taken).max(NARROWEST_NAME);
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
}

/// Keeps the end of a text that is too long: of a path that is what tells most.
pub(crate) fn from_the_back(text: &str, columns: usize) -> String {
    let length = text.chars().count();
    if length <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().skip(length + 1 - columns.max(1)).collect();
    format!("…{kept}")
}

/// Keeps the beginning of a text that is too long.
pub(crate) fn from_the_front(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
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
        table.write(&mut out, 40, Style::new(false), from_the_front).expect("memory");
        let text = String::from_utf8(out).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "  bytes  name");
        assert_eq!(lines[1], "      1  short");
        assert_eq!(lines[2].chars().count(), 40);
        assert_eq!(lines[3], "         /a/long/path");
    }

    #[test]
    fn texts_are_cut_at_either_end() {
        assert_eq!(from_the_back("abcdef", 4), "…def");
        assert_eq!(from_the_front("abcdef", 4), "abc…");
        assert_eq!(from_the_back("abc", 3), "abc");
    }
}
