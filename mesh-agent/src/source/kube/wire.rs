//! An object as it comes over the wire. One that has not the type of its kind is bad, and so is told by its name: without
//! this the whole list, or the whole watch, could not be read.

use std::borrow::Cow;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    serde::{Deserialize, Deserializer, de::DeserializeOwned},
};
use kube::Resource;
use serde_json::Value;

use super::super::decode::{Interner, Manifest, Options, Rejected, served};
use crate::model::{Kind, Object};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Wire<T> {
    /// Name, namespace and resource version alone.
    metadata: ObjectMeta,
    typed: Result<T, Rejected>,
}

impl<T: DeserializeOwned> From<Value> for Wire<T> {
    fn from(mut value: Value) -> Self {
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            // Often more than half of an object, and nothing of it is used.
            metadata.remove("managedFields");
        }
        let text = |key: &str| {
            let text = value.get("metadata")?.get(key)?.as_str()?;
            Some(text.to_owned())
        };
        let metadata = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        let typed = served(&value);
        Self { metadata, typed }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Wire<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

impl<T: Manifest> Manifest for Wire<T> {
    const KIND: Kind = T::KIND;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn to_object(
        &self,
        options: &Options,
        interner: &mut Interner,
        notes: &mut Vec<Rejected>,
    ) -> Result<Option<Object>, Rejected> {
        let typed = self.typed.as_ref().map_err(Clone::clone)?;
        typed.to_object(options, interner, notes)
    }
}

impl<T: Resource<DynamicType = ()>> Resource for Wire<T> {
    type DynamicType = ();
    type Scope = T::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        T::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        T::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        T::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        T::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use kube::{api::WatchEvent, core::ObjectList};
    use serde_json::json;

    use super::*;
    use crate::source::decode::convert;

    fn service(port: Value) -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "a", "resourceVersion": "7", "managedFields": 3},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": port}], "newer": true},
        })
    }

    /// The number of problems, or the first one.
    fn problems(wire: &Wire<Service>) -> Option<String> {
        let converted = convert(wire, &Options::default(), &mut Interner::default());
        assert_eq!(converted.object.is_err(), !converted.problems.is_empty());
        converted.problems.first().map(ToString::to_string)
    }

    #[test]
    fn a_bad_object_does_not_spoil_its_list() {
        let text = json!({
            "metadata": {"resourceVersion": "9"},
            "items": [service(json!("eighty")), service(json!(80))],
        });
        let list: ObjectList<Wire<Service>> = serde_json::from_str(&text.to_string()).unwrap();
        let said: Vec<Option<String>> = list.items.iter().map(problems).collect();
        let [Some(bad), None] = said.as_slice() else {
            panic!("{said:?}");
        };
        let wanted = "Service a/web: spec.ports[0].port: invalid type";
        assert!(bad.starts_with(wanted), "{bad}");
    }

    #[test]
    fn a_bad_object_does_not_end_its_watch() {
        let text = json!({"type": "MODIFIED", "object": service(json!({}))}).to_string();
        let event: WatchEvent<Wire<Service>> = serde_json::from_str(&text).unwrap();
        let WatchEvent::Modified(wire) = event else {
            panic!("{event:?}");
        };
        assert_eq!(wire.meta().resource_version.as_deref(), Some("7"));
        assert!(problems(&wire).is_some());
    }
}
