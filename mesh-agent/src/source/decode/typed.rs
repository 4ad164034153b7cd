//! From an untyped object to its Kubernetes type, as strictly as kubectl validates.

use k8s_openapi::serde::de::DeserializeOwned;

use serde_json::Value;

use super::{document::Body, field::Rejected};

/// The object as its Kubernetes type. Fields that the type does not have are an error: a mistyped field would otherwise
/// be silently without effect.
pub(super) fn typed<T: DeserializeOwned>(body: &Body<'_>) -> Result<T, Rejected> {
    let (parsed, unknown) = lenient(body)?;
    match unknown.into_iter().next() {
        None => Ok(parsed),
        Some(rejected) => Err(rejected),
    }
}

/// The same of kinds of which little is read and others write most: their unknown fields are noted, since each release of
/// Kubernetes brings new ones.
pub(super) fn typed_by_others<T: DeserializeOwned>(
    body: &Body<'_>,
    notes: &mut Vec<Rejected>,
) -> Result<T, Rejected> {
    let (parsed, unknown) = lenient(body)?;
    notes.extend(unknown);
    Ok(parsed)
}

/// A value that an API server gave. It has checked the fields by its own, perhaps newer, schema: those that are not known
/// here are nobody's mistake.
pub(in crate::source) fn served<T: DeserializeOwned>(value: &Value) -> Result<T, Rejected> {
    const FIX: &str = "give the type that the API has";
    serde_path_to_error::deserialize(value)
        .map_err(|error| Rejected::at_path(error.path(), without_place(error.inner()), FIX))
}

fn lenient<T: DeserializeOwned>(body: &Body<'_>) -> Result<(T, Vec<Rejected>), Rejected> {
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(no_such_field(&path.to_string()));
    let parsed: Result<T, ()> = match body {
        Body::Json { text, .. } => {
            let mut json = serde_json::Deserializer::from_str(text);
            serde_ignored::deserialize(&mut json, &mut note).map_err(drop)
        }
        Body::Yaml { value, .. } => serde_ignored::deserialize(value, &mut note).map_err(drop),
    };
    let parsed = parsed.map_err(|()| wrong_type::<T>(body))?;
    Ok((parsed, unknown))
}

fn no_such_field(path: &str) -> Rejected {
    Rejected::new(
        readable(path),
        "there is no such field",
        "correct its name or remove it",
    )
}

/// The same once more, slower, to learn where it went wrong.
fn wrong_type<T: DeserializeOwned>(body: &Body<'_>) -> Rejected {
    const FIX: &str = "give the type that the API has";
    let rejected = match body {
        Body::Json { text, .. } => {
            let mut json = serde_json::Deserializer::from_str(text);
            let result = serde_path_to_error::deserialize::<_, T>(&mut json);
            result.err().map(|error| {
                let cause = error.inner();
                let rejected = Rejected::at_path(error.path(), without_place(cause), FIX);
                rejected.below(cause.line().saturating_sub(1))
            })
        }
        Body::Yaml { value, .. } => {
            let result = serde_path_to_error::deserialize::<_, T>(value);
            result
                .err()
                .map(|error| Rejected::at_path(error.path(), error.inner().to_string(), FIX))
        }
    };
    rejected.unwrap_or_else(|| Rejected::new("", "it cannot be read", FIX))
}

/// An error without the line within the object, which would be taken for the file's.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((reason, _)) => reason.to_owned(),
        None => text,
    }
}

/// Paths without the marks of optional values, and with indices as people write them.
pub(super) fn readable(path: &str) -> String {
    let mut text = String::new();
    for part in path.split('.').filter(|part| !matches!(*part, "?" | "")) {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
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
    fn paths_are_written_as_people_write_them() {
        assert_eq!(readable("spec.?.ports.?.0.port"), "spec.ports[0].port");
        assert_eq!(readable("spec.ports[0].port"), "spec.ports[0].port");
        assert_eq!(readable("."), "");
    }
}
