//! YAML: documents, each an object or a list of them. Each document is parsed by itself, so that one at a time is in
//! memory.

use serde_json::Value;
use serde_saphyr::{Budget, Options};

use super::{
    document::{Body, Item, MOST_LISTS, Malformed, no_items, no_object, too_many_lists},
    field::Rejected,
    head::Head,
};

/// Objects of the API are less than half as deep. Each level costs stack.
const MOST_DEPTH: usize = 64;
/// A list of 10,000 Services with as many slices of 10 endpoints has less than 3 million.
const MOST_NODES: usize = 4_000_000;
/// Aliases save typing in manifests; nobody types a hundred thousand values.
const MOST_ALIASED: usize = 100_000;

pub(super) fn for_each_item(text: &str, each: &mut dyn FnMut(Item<'_>)) -> Result<(), Malformed> {
    for (line, document) in documents(text) {
        let value = parse(document).map_err(|(inner, reason)| {
            let line = line + inner.saturating_sub(1);
            Malformed {
                line: Some(line),
                reason,
            }
        })?;
        if !value.is_null() {
            object(value, line, None, 0, each);
        }
    }
    Ok(())
}

/// What a hostile file may cost is bounded here; its size is already.
fn options() -> Options {
    let mut budget = Budget::default();
    budget.max_depth = MOST_DEPTH;
    budget.flow_nesting_limit = MOST_DEPTH;
    budget.max_nodes = MOST_NODES;
    budget.max_events = 2 * MOST_NODES;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.alias_limits.max_total_replayed_events = MOST_ALIASED;
    options.strict_booleans = true;
    options
}

fn parse(text: &str) -> Result<Value, (u64, String)> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        let words = error.without_snippet().to_string();
        (line, format!("no YAML: {}", plain(&words)))
    })
}

/// The parser's words without the line within the document (the file's is told before) and without advice to
/// programmers.
fn plain(words: &str) -> &str {
    let mut reason = words.lines().next().unwrap_or_default();
    for end in [" at line ", ", set "] {
        reason = reason.split(end).next().unwrap_or_default();
    }
    reason
}

fn object(
    mut value: Value,
    line: u64,
    list: Option<&Head>,
    depth: usize,
    each: &mut dyn FnMut(Item<'_>),
) {
    let mut head = head(&value);
    if let (Ok(head), Some(list)) = (&mut head, list) {
        head.inherit(list);
    }
    if let Ok(known) = &head
        && known.is_list()
    {
        match value.get_mut("items").map(Value::take) {
            Some(_) if depth >= MOST_LISTS => head = Err(too_many_lists()),
            Some(Value::Array(items)) => {
                return items
                    .into_iter()
                    .for_each(|item| object(item, line, Some(known), depth + 1, each));
            }
            Some(Value::Null) | None => {}
            Some(_) => head = Err(no_items("it is no array")),
        }
    }
    let body = Body::Yaml { value, line };
    each(Item { head, body });
}

fn head(value: &Value) -> Result<Head, Rejected> {
    if !value.is_object() {
        return Err(no_object());
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let reason = error.inner().to_string();
        Rejected::at_path(error.path(), reason, "write it as kubectl prints it")
    })
}

/// The documents of a YAML file with the lines they begin at. A line that begins with `---` ends a document wherever
/// it stands (YAML 1.2.2, 9.1.2), so that each document can be parsed by itself.
fn documents(text: &str) -> impl Iterator<Item = (u64, &str)> {
    let (mut begin, mut begin_line, mut offset) = (0, 1, 0);
    let mut documents = Vec::new();
    for (number, line) in (1_u64..).zip(text.split_inclusive('\n')) {
        let bare = line.trim_end();
        let is_marker = ["---", "..."].iter().any(|marker| {
            bare.strip_prefix(marker)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        });
        if is_marker {
            documents.push((begin_line, &text[begin..offset]));
            begin_line = number;
            begin = offset + 3;
        }
        offset += line.len();
    }
    documents.push((begin_line, &text[begin..]));
    documents.into_iter().filter_map(from_its_first_line)
}

/// Without what comes before the first line of content, which is where readers look; None if there is no content.
fn from_its_first_line((mut number, document): (u64, &str)) -> Option<(u64, &str)> {
    let mut offset = 0;
    for line in document.split_inclusive('\n') {
        let bare = line.trim();
        // A directive such as `%YAML 1.2` stands before the `---` of its document, which is cut off already.
        if !bare.is_empty() && !bare.starts_with('#') && !line.starts_with('%') {
            return Some((number, &document[offset..]));
        }
        number += 1;
        offset += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_begin_at_their_first_line() {
        let text =
            "# head\n%YAML 1.2\n---\n# one\na: 1\n--- # two\nb: |\n  ---x\n  c\n...\n---\n--- c\n";
        let found: Vec<(u64, &str)> = documents(text).collect();
        let wanted = [(5, "a: 1\n"), (7, "b: |\n  ---x\n  c\n"), (12, " c\n")];
        assert_eq!(found, wanted);
    }
}
