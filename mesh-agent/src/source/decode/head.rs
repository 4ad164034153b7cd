//! What every manifest says of itself: enough to know its kind and to name it when the rest is wrong.

use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::super::problem::brief;
use crate::model::{Kind, ObjectId, ObjectName};

/// apiVersion, kind and name. Values of a wrong type count as missing: the object's own type says what is wrong.
#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object with apiVersion and kind")]
pub(super) struct Head {
    #[serde(rename = "apiVersion", deserialize_with = "text")]
    pub(super) api_version: String,
    #[serde(deserialize_with = "text")]
    pub(super) kind: String,
    #[serde(deserialize_with = "metadata")]
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object")]
struct Metadata {
    #[serde(deserialize_with = "text")]
    name: String,
    #[serde(deserialize_with = "text")]
    namespace: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Other(IgnoredAny),
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Text::deserialize(deserializer)? {
        Text::Text(text) => text,
        Text::Other(_) => String::new(),
    })
}

fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Head {
    /// Kind and name, as people name it.
    pub(super) fn label(&self) -> String {
        let kind = if self.kind.is_empty() {
            "object"
        } else {
            &self.kind
        };
        let name = &self.metadata.name;
        brief(&match (kind, name.as_str()) {
            (_, "") => format!("{kind} without a name"),
            ("Node" | "Namespace", _) => format!("{kind} {name}"),
            _ => format!("{kind} {}/{name}", self.namespace()),
        })
    }

    /// The identity of an object of a kind that is used.
    pub(super) fn id(&self) -> Option<ObjectId> {
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == self.kind)?;
        if self.metadata.name.is_empty() {
            return None;
        }
        let namespace = match kind {
            Kind::Node | Kind::Namespace => "",
            Kind::EndpointSlice | Kind::Pod | Kind::Service => self.namespace(),
        };
        Some(ObjectId {
            kind,
            name: ObjectName::new(namespace, &self.metadata.name),
        })
    }

    fn namespace(&self) -> &str {
        match self.metadata.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        }
    }

    pub(super) fn is_list(&self) -> bool {
        self.kind.ends_with("List")
    }

    /// Items of a `ServiceList` may leave out what the list has said already.
    pub(super) fn inherit(&mut self, list: &Self) {
        let kind = list.kind.trim_end_matches("List");
        if self.kind.is_empty() && !kind.is_empty() {
            kind.clone_into(&mut self.kind);
            self.api_version.clone_from(&list.api_version);
        }
    }
}
