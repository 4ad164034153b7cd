//! Manifests to objects: the bytes of one file in; objects, and problems that name what is wrong, out. A bad object
//! does not spoil its neighbours, and nothing here panics, whatever the bytes are.

mod address;
mod document;
mod endpoint_slice;
mod field;
mod metadata;
mod node;
mod pod;
mod service;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use k8s_openapi::api::{core::v1, discovery::v1 as discovery};

use super::Problem;
use crate::model::{Object, ObjectId};
use document::{Item, typed};
use field::Rejected;

pub use metadata::Interner;

/// What decides which objects are ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// --service-proxy-name: the label's value that Services must have; None: they must not have the label.
    pub proxy_name: Option<String>,
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// Its good objects, in order, each id once.
    pub objects: Vec<Object>,
    /// Objects that are there but bad: their last good version stays.
    pub bad: BTreeSet<ObjectId>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// The file as a whole could not be read: all its last good objects stay.
    pub unreadable: bool,
}

/// Decodes a file. The name decides between JSON (`.json`) and YAML.
#[must_use]
pub fn decode(file: &str, bytes: &[u8], options: &Options, interner: &mut Interner) -> Decoded {
    let mut decoded = Decoded::default();
    let mut seen = BTreeSet::new();
    let result = document::for_each_item(file, bytes, &mut |item| {
        one(file, &item, options, interner, &mut decoded, &mut seen);
    });
    if let Err(problem) = result {
        return Decoded {
            problems: vec![*problem],
            unreadable: true,
            ..Decoded::default()
        };
    }
    decoded
}

fn one(
    file: &str,
    item: &Item<'_>,
    options: &Options,
    interner: &mut Interner,
    decoded: &mut Decoded,
    seen: &mut BTreeSet<ObjectId>,
) {
    let head = &item.head;
    let mut notes = Vec::new();
    let result = convert(item, options, interner, &mut notes);
    let label = head.label();
    let problem = |rejected: Rejected| Problem {
        file: Some(file.to_owned()),
        line: item.line,
        object: Some(label.clone()),
        field: (!rejected.field.is_empty()).then_some(rejected.field),
        reason: rejected.reason,
        fix: rejected.fix.to_owned(),
    };
    decoded.problems.extend(notes.into_iter().map(&problem));
    match result {
        Ok(Some(object)) => {
            if seen.insert(object.id()) {
                decoded.objects.push(object);
            } else {
                decoded.problems.push(problem(Rejected::new(
                    "metadata.name",
                    "this file has the object twice: the first one counts",
                    "remove one of them",
                )));
            }
        }
        Ok(None) => {}
        Err(rejected) => {
            decoded.bad.extend(head.id());
            decoded.problems.push(problem(rejected));
        }
    }
}

/// The object, or None for one that is not ours.
fn convert(
    item: &Item<'_>,
    options: &Options,
    interner: &mut Interner,
    notes: &mut Vec<Rejected>,
) -> Result<Option<Object>, Rejected> {
    let head = &item.head;
    match (head.api_version.as_str(), head.kind.as_str()) {
        ("v1", "Service") => {
            service::convert(&typed::<v1::Service>(item)?, options, interner, notes)
                .map(|service| service.map(Object::Service))
        }
        ("discovery.k8s.io/v1", "EndpointSlice") => {
            endpoint_slice::convert(&typed::<discovery::EndpointSlice>(item)?, interner, notes)
                .map(|slice| slice.map(Object::EndpointSlice))
        }
        ("v1", "Pod") => pod::convert(&typed::<v1::Pod>(item)?, interner, notes)
            .map(|pod| Some(Object::Pod(pod))),
        ("v1", "Node") => node::convert(&typed::<v1::Node>(item)?, interner, notes)
            .map(|node| Some(Object::Node(node))),
        ("v1", "Namespace") => {
            let namespace = typed::<v1::Namespace>(item)?;
            metadata::cluster_name(&namespace.metadata, interner)
                .map(|name| Some(Object::Namespace(name)))
        }
        ("", _) | (_, "") => Err(Rejected::new(
            "kind",
            "a manifest has apiVersion and kind",
            "add what is missing",
        )),
        (version, kind) => {
            tracing::debug!(version, kind, "objects of this kind are not used");
            Ok(None)
        }
    }
}
