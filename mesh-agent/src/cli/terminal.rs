//! Where a command's data goes: stdout, as a table or as one JSON document; colour only on a terminal.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::args::Output;
use crate::telemetry::view::{CheckLevel, Document};

/// Where data goes.
pub(super) struct Terminal<'a> {
    out: &'a mut dyn Write,
    colour: bool,
}

impl<'a> Terminal<'a> {
    /// A writer, with or without colour.
    pub(super) const fn new(out: &'a mut dyn Write, colour: bool) -> Self {
        Self { out, colour }
    }

    /// Text as it is.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// The same thing either way: the document, or the text that `table` makes of its content.
    pub(super) fn show<T: Serialize>(
        &mut self,
        output: Output,
        document: &Document<T>,
        table: impl FnOnce(&T, &Paint) -> String,
    ) -> io::Result<()> {
        match output {
            Output::Table => {
                let text = table(&document.content, &Paint(self.colour));
                self.text(&text)
            }
            Output::Json => {
                serde_json::to_writer_pretty(&mut *self.out, document)?;
                self.text("\n")
            }
        }
    }
}

/// Whether stdout is a terminal that shows colours. NO_COLOR with any value turns them off (no-color.org).
pub(super) fn colour() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !is_set("NO_COLOR") && !dumb
}

/// Colours words, or does not.
pub(super) struct Paint(pub(super) bool);

impl Paint {
    /// A word in the colour of a level.
    pub(super) fn level(&self, level: CheckLevel, word: &str) -> String {
        let code = match level {
            CheckLevel::Ok => 32,
            CheckLevel::Warn => 33,
            CheckLevel::Error => 31,
        };
        if self.0 {
            format!("\u{1b}[{code}m{word}\u{1b}[0m")
        } else {
            word.to_owned()
        }
    }
}
