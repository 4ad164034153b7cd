//! Printing: data to stdout, as a table or as JSON. Text that came from outside is escaped, so that no object's name can
//! steer a terminal.

use std::io::{self, Write};

use serde::Serialize;

use super::args::Output;
use crate::telemetry::Document;

/// Prints a document as JSON, or the table made from it.
pub(super) fn document<T: Serialize>(
    output: Output,
    kind: &str,
    body: &T,
    table: impl FnOnce() -> String,
) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match output {
        Output::Table => stdout.write_all(table().as_bytes()),
        Output::Json => {
            serde_json::to_writer_pretty(&mut stdout, &Document::new(kind, body))?;
            stdout.write_all(b"\n")
        }
    }
}

/// Columns as wide as their widest cell, two spaces between them; no trailing space.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| escape(cell)).collect())
        .collect();
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Control characters become visible.
pub(super) fn escape(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars()
            .flat_map(|it| {
                if it.is_control() {
                    it.escape_default().collect()
                } else {
                    vec![it]
                }
            })
            .collect()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_escapes_are_visible() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned()],
            vec!["long\u{1b}[31m".to_owned(), String::new()],
        ];
        let text = table(&["NAME", "N"], &rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            ["NAME            N", "a               1", "long\\u{1b}[31m"]
        );
    }
}
