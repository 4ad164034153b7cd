//! Objects as JSON: what a manifest says about itself, and the parts of it that the API takes by different ways. Pure.

use std::path::Path;

use anyhow::{Context, Result};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, TypeMeta};
use serde_json::{Value, json};

/// Which object a manifest speaks of.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) resource: ApiResource,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

impl Key {
    pub(super) fn new(
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Self> {
        let types = TypeMeta {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        };
        let kind = GroupVersionKind::try_from(&types)
            .with_context(|| format!("{api_version} is no version of an API"))?;
        Ok(Self {
            resource: ApiResource::from_gvk(&kind),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        })
    }

    pub(super) fn of(manifest: &Value) -> Result<Self> {
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str);
        let need =
            |pointer: &str| text(pointer).with_context(|| format!("no {pointer} in {manifest}"));
        Self::new(
            need("/apiVersion")?,
            need("/kind")?,
            text("/metadata/namespace"),
            need("/metadata/name")?,
        )
    }

    pub(super) fn kind(&self) -> &str {
        &self.resource.kind
    }
}

/// The manifest without its status, which the API would ignore, and the status alone, if there is one.
pub(super) fn split_status(manifest: &Value) -> (Value, Option<Value>) {
    let mut object = manifest.clone();
    let Some(status) = object
        .as_object_mut()
        .and_then(|fields| fields.remove("status"))
    else {
        return (object, None);
    };
    (object, Some(json!({"status": status})))
}

/// What the API answered, as the JSON it sent.
pub(super) fn value(object: DynamicObject) -> Result<Value> {
    Ok(serde_json::to_value(object)?)
}

/// A kubeconfig (JSON is YAML) with a bearer token.
pub(super) fn token_kubeconfig(server: &str, ca: &Path, user: &str, token: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": user,
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": ca}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": user, "context": {"cluster": "test", "user": user}}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_says_where_it_belongs() {
        let key = Key::of(&json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "web-1", "namespace": "shop"},
        }))
        .unwrap();
        assert_eq!(key.resource.plural, "endpointslices");
        assert_eq!(key.resource.group, "discovery.k8s.io");
        assert_eq!(key.namespace.as_deref(), Some("shop"));
        assert!(Key::of(&json!({"kind": "Pod"})).is_err());
    }

    #[test]
    fn the_status_goes_its_own_way() {
        let manifest = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"app": "b"}},
            "spec": {}, "status": {"phase": "Running"},
        });
        let (object, status) = split_status(&manifest);
        let status = status.unwrap();
        assert_eq!(object.get("status"), None);
        assert_eq!(status["status"]["phase"], "Running");
        assert_eq!(status.get("metadata"), None);
        assert_eq!(split_status(&object).1, None);
    }
}
