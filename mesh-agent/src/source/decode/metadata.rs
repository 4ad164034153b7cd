//! Names, labels and shared strings.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::field::{Rejected, is_label};
use crate::model::ObjectName;

/// Each string once: ten thousand slices name the same few nodes, namespaces and ports.
#[derive(Debug, Default)]
pub struct Interner(BTreeSet<Arc<str>>);

impl Interner {
    /// More than a cluster has of what is worth sharing.
    const MOST: usize = 100_000;

    /// The string, shared with everybody who asked for the same.
    pub fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = text.into();
        if self.0.len() < Self::MOST {
            self.0.insert(Arc::clone(&shared));
        }
        shared
    }
}

/// Labels or a selector.
pub(super) fn labels(
    map: Option<&BTreeMap<String, String>>,
    interner: &mut Interner,
) -> BTreeMap<Arc<str>, Arc<str>> {
    map.into_iter()
        .flatten()
        .map(|(key, value)| (interner.share(key), interner.share(value)))
        .collect()
}

/// Namespace and name; without a namespace it is `default`, as kubectl has it.
pub(super) fn name(metadata: &ObjectMeta, interner: &mut Interner) -> Result<ObjectName, Rejected> {
    let namespace = metadata
        .namespace
        .as_deref()
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or("default");
    label("metadata.namespace", namespace)?;
    Ok(ObjectName {
        namespace: interner.share(namespace),
        name: own_name(metadata)?.into(),
    })
}

/// The same of kinds whose names are DNS labels, since they become parts of host names.
pub(super) fn label_name(
    metadata: &ObjectMeta,
    interner: &mut Interner,
) -> Result<ObjectName, Rejected> {
    label(
        "metadata.name",
        metadata.name.as_deref().unwrap_or_default(),
    )?;
    name(metadata, interner)
}

/// The name of a cluster-wide object.
pub(super) fn cluster_name(
    metadata: &ObjectMeta,
    interner: &mut Interner,
) -> Result<ObjectName, Rejected> {
    Ok(ObjectName {
        namespace: interner.share(""),
        name: own_name(metadata)?.into(),
    })
}

/// metadata.creationTimestamp, seconds since 1970.
pub(super) fn created(metadata: &ObjectMeta) -> Option<i64> {
    let created = metadata.creation_timestamp.as_ref();
    created.map(|time| time.0.as_second())
}

/// A DNS subdomain (RFC 1123), which is what most kinds ask of names.
fn own_name(metadata: &ObjectMeta) -> Result<&str, Rejected> {
    let name = metadata.name.as_deref().unwrap_or_default();
    if name.len() <= 253 && !name.is_empty() && name.split('.').all(is_label) {
        return Ok(name);
    }
    Err(no_name(
        "metadata.name",
        name,
        "give lower case letters, digits, '-' and '.'",
    ))
}

fn label(field: &str, name: &str) -> Result<(), Rejected> {
    if is_label(name) {
        return Ok(());
    }
    let fix = "give lower case letters, digits and '-', 63 at most";
    Err(no_name(field, name, fix))
}

fn no_name(field: &str, name: &str, fix: &'static str) -> Rejected {
    let reason = if name.is_empty() {
        "there is none".to_owned()
    } else {
        format!("{name:?} is no name")
    };
    Rejected::new(field, reason, fix)
}
