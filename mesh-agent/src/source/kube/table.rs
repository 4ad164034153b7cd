//! One kind's watch events in, changes of objects out. Pure: nothing here knows the network.
//!
//! A relist is compared with what was told: an object that is as it was is not told again, and what is missing is gone
//! only once the list is complete.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::{
    Problem,
    decode::{Converted, Interner, Manifest, Options, convert},
};
use crate::model::{Change, EndpointSlice, Kind, Object, ObjectId, ObjectName};

/// What a watch tells; kube's own type without what is not used.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event<M> {
    /// A list begins.
    Init,
    /// An object of the list.
    InitApply(M),
    /// The list is complete.
    InitDone,
    /// An object came or changed.
    Apply(M),
    /// An object is gone.
    Delete(M),
}

/// What is known of an object.
#[derive(Debug)]
struct Entry {
    /// metadata.resourceVersion
    version: Box<str>,
    /// Whether the store has it.
    told: bool,
}

/// One kind's objects, as far as the source has to know them.
#[derive(Debug)]
pub(super) struct Table {
    kind: Kind,
    options: Options,
    interner: Interner,
    entries: BTreeMap<ObjectName, Entry>,
    /// Seen in the list that is under way.
    listing: Option<BTreeSet<ObjectName>>,
    problems: BTreeMap<ObjectName, Vec<Problem>>,
    /// Bad objects of which the store has no version. Asked for after each event, so that it is not looked for among all.
    unread: BTreeSet<ObjectName>,
    synced: bool,
}

impl Table {
    pub(super) fn new(kind: Kind, options: Options) -> Self {
        Self {
            kind,
            options,
            interner: Interner::default(),
            entries: BTreeMap::new(),
            listing: None,
            problems: BTreeMap::new(),
            unread: BTreeSet::new(),
            synced: false,
        }
    }

    /// What comes of an event.
    pub(super) fn take<M: Manifest>(&mut self, event: Event<M>) -> Vec<Change> {
        let change = match event {
            Event::Init => {
                self.listing = Some(BTreeSet::new());
                None
            }
            Event::InitApply(manifest) => {
                let name = name(manifest.metadata());
                if let Some(listing) = &mut self.listing {
                    listing.insert(name.clone());
                }
                self.apply(name, &manifest)
            }
            Event::Apply(manifest) => self.apply(name(manifest.metadata()), &manifest),
            Event::Delete(manifest) => self.remove(&name(manifest.metadata())),
            Event::InitDone => return self.listed(),
        };
        change.into_iter().collect()
    }

    /// What comes of a list that is complete: what it does not have is gone.
    fn listed(&mut self) -> Vec<Change> {
        let seen = self.listing.take().unwrap_or_default();
        let gone = self.entries.keys().filter(|name| !seen.contains(*name));
        let gone: Vec<ObjectName> = gone.cloned().collect();
        let mut changes: Vec<Change> = gone.iter().filter_map(|name| self.remove(name)).collect();
        if !std::mem::replace(&mut self.synced, true) {
            changes.push(Change::Synced(self.kind));
        }
        changes
    }

    /// What is wrong with objects.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values().flatten()
    }

    /// Whether an object has no good version.
    pub(super) fn is_incomplete(&self) -> bool {
        !self.unread.is_empty()
    }

    fn apply<M: Manifest>(&mut self, name: ObjectName, manifest: &M) -> Option<Change> {
        let version = manifest
            .metadata()
            .resource_version
            .as_deref()
            .unwrap_or_default();
        let known = self.entries.get(&name);
        if known.is_some_and(|known| !version.is_empty() && &*known.version == version) {
            return None;
        }
        let was_told = known.is_some_and(|known| known.told);
        let Converted { object, problems } = convert(manifest, &self.options, &mut self.interner);
        let (has_problems, bad) = (!problems.is_empty(), object.is_err());
        let (change, told) = match object {
            Ok(Some(object)) if was_told && is_last_of_api_server(&object) => {
                let empty = kept(&object.id(), "it has no endpoint");
                self.problems.insert(name.clone(), vec![empty]);
                (None, true)
            }
            Ok(Some(object)) => (Some(Change::Put(object)), true),
            Ok(None) if was_told => (Some(Change::Remove(self.id(&name))), false),
            Ok(None) => (None, false),
            Err(()) => (None, was_told),
        };
        if has_problems {
            self.problems.insert(name.clone(), problems);
        } else if change.is_some() || !told {
            self.problems.remove(&name);
        }
        if bad && !told {
            self.unread.insert(name.clone());
        } else {
            self.unread.remove(&name);
        }
        let version = version.into();
        self.entries.insert(name, Entry { version, told });
        change
    }

    fn remove(&mut self, name: &ObjectName) -> Option<Change> {
        if self.kind == Kind::EndpointSlice && is_api_servers(name) {
            let gone = kept(&self.id(name), "it is gone");
            self.problems.insert(name.clone(), vec![gone]);
            return None;
        }
        self.problems.remove(name);
        self.unread.remove(name);
        let entry = self.entries.remove(name)?;
        entry.told.then(|| Change::Remove(self.id(name)))
    }

    fn id(&self, name: &ObjectName) -> ObjectId {
        ObjectId {
            kind: self.kind,
            name: name.clone(),
        }
    }
}

/// Why the `kubernetes` Service keeps its endpoints, and what to do.
fn kept(id: &ObjectId, reason: &str) -> Problem {
    Problem {
        object: Some(id.to_string()),
        reason: format!("{reason}; the API server may be away, so its last endpoints stay"),
        fix: "nothing if it comes back, else look at the API server".to_owned(),
        ..Problem::default()
    }
}

/// The API server takes its own address out when it ends; without it nobody could reach one that comes back.
fn is_last_of_api_server(object: &Object) -> bool {
    match object {
        Object::EndpointSlice(slice) => slice.endpoints.is_empty() && is_api_servers(&slice.name),
        Object::Namespace(_) | Object::Node(_) | Object::Pod(_) | Object::Service(_) => false,
    }
}

/// The slice that the API server itself writes.
pub(super) fn is_api_servers(name: &ObjectName) -> bool {
    &*name.namespace == "default" && &*name.name == "kubernetes"
}

/// The slice, if a change is about it.
pub(super) fn api_servers(change: &Change) -> Option<&EndpointSlice> {
    match change {
        Change::Put(Object::EndpointSlice(slice)) if is_api_servers(&slice.name) => Some(slice),
        Change::Put(_)
        | Change::Remove(_)
        | Change::Synced(_)
        | Change::Incomplete(_)
        | Change::NodeAddresses(_) => None,
    }
}

fn name(metadata: &ObjectMeta) -> ObjectName {
    ObjectName::new(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests;
