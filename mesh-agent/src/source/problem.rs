//! What is wrong with an input, in one line that names file, object and field.

use std::fmt;

use crate::model::ObjectId;

/// Bad input. The order is that of files and objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file's name, without its directory.
    pub file: Option<String>,
    /// Line in the file.
    pub line: Option<u64>,
    /// Kind and name, as far as they could be read.
    pub object: Option<String>,
    /// The object itself, where it is one that an API server has and its owner should know.
    pub about: Option<ObjectId>,
    /// Path of the field.
    pub field: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub fix: String,
}

impl Problem {
    /// Of a file as a whole.
    #[must_use]
    pub fn of_file(file: &str, reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            file: Some(file.to_owned()),
            reason: brief(&reason.into()),
            fix: fix.into(),
            ..Self::default()
        }
    }
}

/// Text from a file, short enough for a line of a log.
pub(super) fn brief(text: &str) -> String {
    const MOST: usize = 240;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            visible(f, file)?;
            match self.line {
                Some(line) => write!(f, ":{line}: ")?,
                None => f.write_str(": ")?,
            }
        }
        for part in [&self.object, &self.field].into_iter().flatten() {
            visible(f, part)?;
            f.write_str(": ")?;
        }
        visible(f, &self.reason)?;
        f.write_str("; ")?;
        visible(f, &self.fix)
    }
}

/// What users wrote may not steer a terminal or break the line.
fn visible(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for character in text.chars() {
        if character.is_control() {
            write!(f, "{}", character.escape_default())?;
        } else {
            fmt::Write::write_char(f, character)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line() {
        let problem = Problem {
            file: Some("a.yaml".to_owned()),
            line: Some(3),
            object: Some("Service default/w\u{1b}eb".to_owned()),
            about: None,
            field: Some("spec.ports[0].port".to_owned()),
            reason: "0 is\nno port".to_owned(),
            fix: "give 1 to 65535".to_owned(),
        };
        let line = "a.yaml:3: Service default/w\\u{1b}eb: spec.ports[0].port: 0 is\\nno port; give 1 to 65535";
        assert_eq!(problem.to_string(), line);
    }
}
