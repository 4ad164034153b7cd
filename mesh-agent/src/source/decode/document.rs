//! From bytes to single objects, still untyped: documents of a YAML file, items of a List.

use serde_json::Value;

use super::{field::Rejected, head::Head, json, yaml};

/// Lists in lists are allowed, without end they are not: each level costs stack.
pub(super) const MOST_LISTS: usize = 8;

/// One object, or what should have been one.
pub(super) struct Item<'a> {
    /// What it says of itself, or why it is no object at all.
    pub(super) head: Result<Head, Rejected>,
    pub(super) body: Body<'a>,
}

/// JSON stays text until its type is known; YAML becomes a value first, since only its parser knows where an object
/// ends.
pub(super) enum Body<'a> {
    Json {
        /// The object's text, a part of the file's.
        text: &'a str,
        file: &'a str,
    },
    Yaml {
        value: Value,
        /// Where its document begins.
        line: u64,
    },
}

impl Body<'_> {
    /// The line of the file that the object begins at. Counts lines: for problems alone.
    pub(super) fn line(&self) -> Option<u64> {
        match self {
            Self::Yaml { line, .. } => Some(*line),
            Self::Json { text, file } => {
                let offset = text.as_ptr().addr().checked_sub(file.as_ptr().addr())?;
                let before = file.as_bytes().get(..offset)?;
                let breaks = before.iter().filter(|byte| **byte == b'\n').count();
                u64::try_from(breaks + 1).ok()
            }
        }
    }
}

/// What keeps a file from being read as a whole.
pub(super) struct Malformed {
    pub(super) line: Option<u64>,
    pub(super) reason: String,
}

/// Hands each object of a file to `each`. A file that is no JSON or YAML is a problem as a whole; what was handed over
/// before that was found is void.
pub(super) fn for_each_item(
    file: &str,
    bytes: &[u8],
    each: &mut dyn FnMut(Item<'_>),
) -> Result<(), Malformed> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let reason = format!("byte {} is no UTF-8", error.valid_up_to());
            return Err(Malformed { line: None, reason });
        }
    };
    if file.ends_with(".json") {
        json::for_each_item(text, each)
    } else {
        yaml::for_each_item(text, each)
    }
}

/// What is said of a value that is no object. A derived type would take a list for its fields in order.
pub(super) fn no_object() -> Rejected {
    Rejected::new(
        "",
        "it is no object with apiVersion and kind",
        "write it as kubectl prints it",
    )
}

/// What is said of lists in lists in lists.
pub(super) fn too_many_lists() -> Rejected {
    Rejected::new("items", "lists within lists without end", "unfold them")
}

/// What is said of a list whose items are none.
pub(super) fn no_items(reason: impl Into<String>) -> Rejected {
    Rejected::new("items", reason, "give an array of objects")
}
