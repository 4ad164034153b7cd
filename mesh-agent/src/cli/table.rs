//! Tables for people: columns as wide as they must be, two spaces between, no lines drawn. Every cell is escaped.

use crate::telemetry::escape::escape;

/// A table that is being filled.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(ToString::to_string).collect()],
        }
    }

    /// One more row; an empty cell is shown as a dash, so that columns can be cut.
    pub(super) fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let shown = |cell: S| match cell.as_ref() {
            "" => "-".to_owned(),
            text => escape(text).into_owned(),
        };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    /// The text, ending in a line break.
    pub(super) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// `1 GiB`, `12.5 MiB`, `4 KiB`, `17 B`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, size) in UNITS {
        if bytes >= size {
            let (whole, tenth) = (bytes / size, bytes % size * 10 / size);
            return match tenth {
                0 => format!("{whole} {unit}"),
                _ => format!("{whole}.{tenth} {unit}"),
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = Table::new(&["NAME", "PORT"]);
        table.row(["web-frontend", "80"]);
        table.row(["ä\u{1b}[2J\n", ""]);
        assert_eq!(
            table.render(),
            "NAME          PORT\nweb-frontend  80\nä\\u{1b}[2J\\n  -\n"
        );
    }

    #[test]
    fn sizes_are_short() {
        for (size, text) in [
            (17, "17 B"),
            (4096, "4 KiB"),
            (13_107_200, "12.5 MiB"),
            (1 << 30, "1 GiB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }
}
