//! Why an object, or a part of it, is not taken.

use super::typed::readable;

/// What is wrong with which field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Path of the field; empty for the object as a whole.
    pub field: String,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub fix: &'static str,
    /// Lines between the object's first and the field's.
    pub lines_below: u64,
}

impl Rejected {
    pub(super) fn new(
        field: impl Into<String>,
        reason: impl Into<String>,
        fix: &'static str,
    ) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
            fix,
            lines_below: 0,
        }
    }

    pub(super) fn at_path(
        path: &serde_path_to_error::Path,
        reason: impl Into<String>,
        fix: &'static str,
    ) -> Self {
        Self::new(readable(&path.to_string()), reason, fix)
    }

    pub(super) fn below(mut self, lines: usize) -> Self {
        self.lines_below = u64::try_from(lines).unwrap_or_default();
        self
    }
}

/// A port as Kubernetes has it: 1 to 65535.
pub(super) fn port(field: impl Fn() -> String, number: i32) -> Result<u16, Rejected> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) | Err(_) => Err(Rejected::new(
            field(),
            format!("{number} is no port"),
            "give 1 to 65535",
        )),
    }
}

/// A port's name: a DNS label (RFC 1123), or nothing.
pub(super) fn port_name(field: impl Fn() -> String, name: Option<&str>) -> Result<&str, Rejected> {
    let name = name.unwrap_or_default();
    if name.is_empty() || is_label(name) {
        return Ok(name);
    }
    Err(Rejected::new(
        field(),
        format!("{name:?} is no name of a port"),
        "give lower case letters, digits and '-', 63 at most",
    ))
}

/// A DNS label as RFC 1123 has it.
pub(super) fn is_label(text: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    text.len() <= 63
        && bytes.iter().all(|byte| edge(byte) || *byte == b'-')
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
}
