//! From bytes to single objects, still untyped: documents of a YAML file, items of a List. JSON stays text until its
//! type is known; YAML becomes a value first, since only its parser knows where an object ends.

use std::borrow::Cow;

use k8s_openapi::serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{Problem, field::Rejected};
use crate::model::{Kind, ObjectId, ObjectName};

/// What every manifest says of itself, and a List's items.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Head {
    #[serde(rename = "apiVersion")]
    pub(super) api_version: String,
    pub(super) kind: String,
    metadata: HeadMetadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HeadMetadata {
    name: Option<String>,
    namespace: Option<String>,
}

impl Head {
    /// Kind and name, as people name it.
    pub(super) fn label(&self) -> String {
        let kind = if self.kind.is_empty() {
            "object"
        } else {
            &self.kind
        };
        let name = self.metadata.name.as_deref().unwrap_or("without a name");
        if matches!(self.kind.as_str(), "Node" | "Namespace") {
            return format!("{kind} {name}");
        }
        format!(
            "{kind} {}/{name}",
            self.metadata.namespace.as_deref().unwrap_or("default")
        )
    }

    /// The identity of an object of a kind that is used.
    pub(super) fn id(&self) -> Option<ObjectId> {
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == self.kind)?;
        let name = self.metadata.name.as_deref()?;
        let namespace = match kind {
            Kind::Node | Kind::Namespace => "",
            Kind::EndpointSlice | Kind::Pod | Kind::Service => {
                self.metadata.namespace.as_deref().unwrap_or("default")
            }
        };
        Some(ObjectId {
            kind,
            name: ObjectName::new(namespace, name),
        })
    }

    fn is_list(&self) -> bool {
        self.kind.ends_with("List")
    }
}

/// One object.
pub(super) struct Item<'a> {
    pub(super) head: Head,
    /// Where its document begins, if the file has several.
    pub(super) line: Option<u64>,
    body: Body<'a>,
}

enum Body<'a> {
    Json(&'a str),
    Value(Value),
}

/// Hands each object of a file to `each`. A file that is no JSON or YAML is a problem as a whole.
pub(super) fn for_each_item(
    file: &str,
    bytes: &[u8],
    each: &mut dyn FnMut(Item<'_>),
) -> Result<(), Box<Problem>> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let reason = format!("byte {} is no UTF-8", error.valid_up_to());
            return Err(Box::new(Problem::of_file(
                file,
                reason,
                "save the file as UTF-8",
            )));
        }
    };
    if file.ends_with(".json") {
        return json(text, each).map_err(|error| {
            let line = u64::try_from(error.line()).ok().filter(|line| *line > 0);
            syntax(file, line, format!("no JSON: {error}"))
        });
    }
    yaml(file, text, each)
}

fn syntax(file: &str, line: Option<u64>, reason: String) -> Box<Problem> {
    let fix = "mend the syntax; what the file said before stays";
    Box::new(Problem {
        line,
        ..Problem::of_file(file, reason, fix)
    })
}

#[derive(Deserialize)]
struct Items<'a> {
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

fn json(text: &str, each: &mut dyn FnMut(Item<'_>)) -> Result<(), serde_json::Error> {
    let whole: &RawValue = serde_json::from_str(text)?;
    json_object(whole.get(), each);
    Ok(())
}

fn json_object(text: &str, each: &mut dyn FnMut(Item<'_>)) {
    let head: Head = serde_json::from_str(text).unwrap_or_default();
    let list = head
        .is_list()
        .then(|| serde_json::from_str::<Items<'_>>(text).ok())
        .flatten();
    match list.and_then(|list| list.items) {
        Some(items) => items
            .into_iter()
            .for_each(|item| json_object(item.get(), each)),
        None => each(Item {
            head,
            line: None,
            body: Body::Json(text),
        }),
    }
}

fn yaml(file: &str, text: &str, each: &mut dyn FnMut(Item<'_>)) -> Result<(), Box<Problem>> {
    let documents = documents(text);
    let mut values = Vec::with_capacity(documents.len());
    for (first_line, document) in documents {
        match parse_yaml(&document) {
            Ok(Value::Null) => {}
            Ok(value) => values.push((first_line, value)),
            Err((line, reason)) => {
                let line = first_line + line.saturating_sub(1);
                return Err(syntax(file, Some(line), reason));
            }
        }
    }
    for (line, value) in values {
        yaml_object(value, Some(line), each);
    }
    Ok(())
}

fn parse_yaml(text: &str) -> Result<Value, (u64, String)> {
    let mut options = serde_saphyr::Options::default();
    // The size of the file is bounded already; what aliases may grow to stays bounded.
    options.budget = None;
    options.strict_booleans = true;
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        let words = error.without_snippet().to_string();
        (
            line,
            format!("no YAML: {}", words.lines().next().unwrap_or_default()),
        )
    })
}

fn yaml_object(mut value: Value, line: Option<u64>, each: &mut dyn FnMut(Item<'_>)) {
    let head = Head::deserialize(&value).unwrap_or_default();
    if head.is_list()
        && let Some(Value::Array(items)) = value.get_mut("items").map(Value::take)
    {
        items
            .into_iter()
            .for_each(|item| yaml_object(item, line, each));
        return;
    }
    each(Item {
        head,
        line,
        body: Body::Value(value),
    });
}

/// The documents of a YAML file with the lines they begin at. A line that begins with `---` ends a document wherever
/// it stands (YAML 1.2.2, 9.1.2), so that each document can be parsed, and be wrong, by itself.
fn documents(text: &str) -> Vec<(u64, Cow<'_, str>)> {
    let mut documents = Vec::new();
    let (mut begin, mut begin_line, mut offset) = (0, 1, 0);
    for (number, line) in (1_u64..).zip(text.split_inclusive('\n')) {
        let bare = line.trim_end();
        let is_marker =
            bare == "---" || bare.starts_with("--- ") || bare.starts_with("---\t") || bare == "...";
        if is_marker {
            documents.push((begin_line, Cow::Borrowed(&text[begin..offset])));
            begin_line = number;
            begin = offset + bare.len().min(3);
        }
        offset += line.len();
    }
    documents.push((begin_line, Cow::Borrowed(&text[begin..])));
    documents.retain(|(_, document)| !document.trim().is_empty());
    documents
}

/// The object as its Kubernetes type. Fields that the type does not have are an error, as kubectl's strict validation
/// has it: a mistyped field would otherwise be silently without effect.
pub(super) fn typed<T: DeserializeOwned>(item: &Item<'_>) -> Result<T, Rejected> {
    let mut unknown = None;
    let mut note = |path: serde_ignored::Path<'_>| {
        unknown.get_or_insert_with(|| path.to_string());
    };
    let parsed: Result<T, ()> = match &item.body {
        Body::Json(text) => {
            let mut json = serde_json::Deserializer::from_str(text);
            serde_ignored::deserialize(&mut json, &mut note).map_err(drop)
        }
        Body::Value(value) => serde_ignored::deserialize(value, &mut note).map_err(drop),
    };
    let parsed = parsed.map_err(|()| wrong_type::<T>(item))?;
    match unknown {
        None => Ok(parsed),
        Some(field) => Err(Rejected::new(
            readable(&field),
            "there is no such field",
            "correct its name or remove it",
        )),
    }
}

/// The same once more, slower, to learn where it went wrong.
fn wrong_type<T: DeserializeOwned>(item: &Item<'_>) -> Rejected {
    let error = match &item.body {
        Body::Json(text) => {
            let mut json = serde_json::Deserializer::from_str(text);
            serde_path_to_error::deserialize::<_, T>(&mut json).err()
        }
        Body::Value(value) => serde_path_to_error::deserialize::<_, T>(value).err(),
    };
    let (field, reason) = match error {
        Some(error) => (error.path().to_string(), error.inner().to_string()),
        None => (String::new(), "it cannot be read".to_owned()),
    };
    Rejected::new(readable(&field), reason, "give the type that the API has")
}

/// Paths without the marks of optional values.
fn readable(path: &str) -> String {
    let parts: Vec<&str> = path.split('.').filter(|part| *part != "?").collect();
    let mut text = String::new();
    for part in parts {
        if part.chars().all(|character| character.is_ascii_digit()) && !part.is_empty() {
            text.push_str(&format!("[{part}]"));
            continue;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_begin_after_their_marks() {
        let text = "# head\n---\na: 1\n--- # two\nb: |\n  ---x\n  c\n...\n";
        let found: Vec<(u64, String)> = documents(text)
            .into_iter()
            .map(|(line, it)| (line, it.into_owned()))
            .collect();
        assert_eq!(found.len(), 3);
        assert_eq!((found[1].0, found[1].1.as_str()), (2, "\na: 1\n"));
        assert_eq!(
            (found[2].0, found[2].1.as_str()),
            (4, " # two\nb: |\n  ---x\n  c\n")
        );
    }

    #[test]
    fn paths_are_written_as_people_write_them() {
        assert_eq!(readable("spec.?.ports.?.0.port"), "spec.ports[0].port");
        assert_eq!(readable("spec.ports[0].port"), "spec.ports[0].port");
    }
}
