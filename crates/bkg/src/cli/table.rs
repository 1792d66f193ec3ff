//! Text in columns: each as wide as its widest cell, the last one as long as it likes.
//!
//! Nothing is cut and nothing wrapped, so that what a table says can be copied and searched.

use std::fmt;

use super::output::harmless;

/// What stands where there is nothing to say.
const NOTHING: &str = "-";
/// What stands between two columns.
const GAP: &str = "  ";

/// Rows below a heading.
pub(super) struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// No rows yet.
    pub(super) fn new(heading: [&str; COLUMNS]) -> Self {
        Self { rows: vec![heading.map(str::to_owned)] }
    }

    /// Adds a row; an empty cell becomes a dash, so that columns stay visible.
    pub(super) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows
            .push(cells.map(|cell| if cell.is_empty() { NOTHING.to_owned() } else { harmless(&cell) }));
    }
}

impl<const COLUMNS: usize> fmt::Display for Table<COLUMNS> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |cell: &String| cell.chars().count();
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = width(cell).max(*widest);
            }
        }
        for row in &self.rows {
            for (column, (cell, widest)) in row.iter().zip(widths).enumerate() {
                if column + 1 == COLUMNS {
                    writeln!(out, "{cell}")?;
                } else {
                    write!(out, "{cell:widest$}{GAP}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "PID", "REASON"]);
        table.row(["llmserver".into(), "7".into(), "it is long, and stays whole".into()]);
        table.row(["ä".into(), "123456".into(), "x".into()]);
        assert_eq!(
            table.to_string(),
            "NAME       PID     REASON\n\
             llmserver  7       it is long, and stays whole\n\
             ä          123456  x\n"
        );
    }

    #[test]
    fn an_empty_cell_is_a_dash() {
        let mut table = Table::new(["A", "B"]);
        table.row([String::new(), String::new()]);
        assert_eq!(table.to_string(), "A  B\n-  -\n");
    }

    #[test]
    fn a_cell_cannot_break_its_row() {
        let mut table = Table::new(["A", "B"]);
        table.row(["x\ny".into(), "\x1b[2J".into()]);
        assert_eq!(table.to_string(), "A     B\nx\\ny  \\u{1b}[2J\n");
    }

    #[test]
    fn a_table_without_rows_is_its_heading() {
        assert_eq!(Table::new(["A", "B"]).to_string(), "A  B\n");
    }
}
