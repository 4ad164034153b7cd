//! The chart without helm: values, schema and templates name the same keys, and the schema refuses every other.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{directory, read};

fn values() -> Value {
    serde_saphyr::from_str(&read("helm/mesh-agent/values.yaml").unwrap()).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&read("helm/mesh-agent/values.schema.json").unwrap()).unwrap()
}

/// The paths of everything that has a default, such as `image.tag`. What a user fills is a leaf.
fn keys(value: &Value, schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let map = value.as_object().filter(|map| !map.is_empty());
    let (Some(properties), Some(map)) = (schema.get("properties"), map) else {
        found.insert(path.to_owned());
        return;
    };
    for (key, value) in map {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        assert!(properties.get(key).is_some(), "the schema lacks {path}");
        keys(value, &properties[key], &path, found);
    }
}

#[test]
fn every_default_is_in_the_schema() {
    let mut found = BTreeSet::new();
    keys(&values(), &schema(), "", &mut found);
    assert!(found.contains("image.tag") && found.contains("k8sServiceHost"));
    // Few enough to be read.
    assert!(found.len() < 60, "{}", found.len());
}

#[test]
fn unknown_keys_are_refused_wherever_keys_are_listed() {
    fn look(schema: &Value, path: &str) {
        if let Some(properties) = schema.get("properties") {
            assert_eq!(schema["additionalProperties"], false, "{path}");
            for (key, part) in properties.as_object().unwrap() {
                look(part, &format!("{path}.{key}"));
            }
        }
        if let Some(items) = schema.get("items") {
            look(items, &format!("{path}[]"));
        }
    }
    look(&schema(), "");
}

#[test]
fn templates_use_every_value_and_no_other() {
    let mut used = BTreeSet::new();
    for entry in std::fs::read_dir(directory().join("helm/mesh-agent/templates")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for part in text.split(".Values.").skip(1) {
            let end = part.find(|character: char| !character.is_alphanumeric() && character != '.');
            used.insert(part[..end.unwrap_or(part.len())].to_owned());
        }
    }
    let mut known = BTreeSet::new();
    keys(&values(), &schema(), "", &mut known);
    for path in &used {
        let prefix = format!("{path}.");
        let is_known = known
            .iter()
            .any(|key| key == path || key.starts_with(&prefix));
        assert!(is_known, "{path} has no default");
    }
    for key in &known {
        let is_used = used
            .iter()
            .any(|path| key == path || key.starts_with(&format!("{path}.")));
        assert!(is_used, "{key} is used nowhere");
    }
}
