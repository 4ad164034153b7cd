//! Manifests to objects: the bytes of one file in; objects, and problems that name what is wrong, out. A bad object
//! does not spoil its neighbours, and nothing here panics, whatever the bytes are.

mod address;
mod document;
mod endpoint_slice;
mod external;
mod field;
mod head;
mod json;
mod metadata;
mod node;
mod pod;
mod service;
#[cfg(test)]
mod tests;
mod typed;
mod yaml;

use std::collections::BTreeSet;

use k8s_openapi::{
    api::{core::v1, discovery::v1 as discovery},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Problem, problem::brief};
use crate::model::{Kind, Object, ObjectId, ObjectName};
use document::{Body, Item};
pub use field::Rejected;
use head::Head;
pub(super) use typed::served;
use typed::{typed, typed_by_others};

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
    /// What is wrong; of very much, the first and how much more there is.
    pub problems: Vec<Problem>,
    /// Kinds of objects that are there but not for us.
    pub unused: BTreeSet<String>,
    /// The file as a whole could not be read: all its last good objects stay.
    pub unreadable: bool,
}

impl Decoded {
    /// Of a file of which nothing can be read.
    #[must_use]
    pub fn unreadable(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
            unreadable: true,
            ..Self::default()
        }
    }
}

/// An object as an API server delivers it.
pub trait Manifest {
    /// Its kind.
    const KIND: Kind;

    /// Its metadata.
    fn metadata(&self) -> &ObjectMeta;

    /// The model's object; None for one that is not ours.
    fn to_object(
        &self,
        options: &Options,
        interner: &mut Interner,
        notes: &mut Vec<Rejected>,
    ) -> Result<Option<Object>, Rejected>;
}

impl Manifest for v1::Service {
    const KIND: Kind = Kind::Service;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn to_object(
        &self,
        options: &Options,
        interner: &mut Interner,
        notes: &mut Vec<Rejected>,
    ) -> Result<Option<Object>, Rejected> {
        let service = service::convert(self, options, interner, notes)?;
        Ok(service.map(Object::Service))
    }
}

impl Manifest for discovery::EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn to_object(
        &self,
        _: &Options,
        interner: &mut Interner,
        notes: &mut Vec<Rejected>,
    ) -> Result<Option<Object>, Rejected> {
        let slice = endpoint_slice::convert(self, interner, notes)?;
        Ok(slice.map(Object::EndpointSlice))
    }
}

impl Manifest for v1::Node {
    const KIND: Kind = Kind::Node;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn to_object(
        &self,
        _: &Options,
        interner: &mut Interner,
        notes: &mut Vec<Rejected>,
    ) -> Result<Option<Object>, Rejected> {
        let node = node::convert(self, interner, notes)?;
        Ok(Some(Object::Node(node)))
    }
}

impl Manifest for v1::Pod {
    const KIND: Kind = Kind::Pod;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn to_object(
        &self,
        _: &Options,
        interner: &mut Interner,
        notes: &mut Vec<Rejected>,
    ) -> Result<Option<Object>, Rejected> {
        let pod = pod::convert(self, interner, notes)?;
        Ok(Some(Object::Pod(pod)))
    }
}

/// What became of an object.
#[derive(Debug)]
pub struct Converted {
    /// The model's object; None for one that is not ours; an error if it cannot be used.
    pub object: Result<Option<Object>, ()>,
    /// What is wrong with it, or with a part of it that is left out.
    pub problems: Vec<Problem>,
}

/// From an API server's object to the model's.
pub fn convert<M: Manifest>(manifest: &M, options: &Options, interner: &mut Interner) -> Converted {
    let mut notes = Vec::new();
    let object = match manifest.to_object(options, interner, &mut notes) {
        Ok(object) => Ok(object),
        Err(rejected) => {
            notes.push(rejected);
            Err(())
        }
    };
    let metadata = manifest.metadata();
    let name = ObjectName::new(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    );
    let label = ObjectId {
        kind: M::KIND,
        name,
    };
    let problem = |rejected: Rejected| Problem {
        object: Some(label.to_string()),
        about: Some(label.clone()),
        field: (!rejected.field.is_empty()).then(|| brief(&rejected.field)),
        reason: brief(&rejected.reason),
        fix: rejected.fix.to_owned(),
        ..Problem::default()
    };
    Converted {
        problems: notes.into_iter().map(problem).collect(),
        object,
    }
}

/// A file that is wrong all over is not worth more lines.
const MOST_PROBLEMS: usize = 100;

/// Decodes a file. The name decides between JSON (`.json`) and YAML.
#[must_use]
pub fn decode(file: &str, bytes: &[u8], options: &Options, interner: &mut Interner) -> Decoded {
    let mut collector = Collector {
        file,
        options,
        interner,
        seen: BTreeSet::new(),
        found: 0,
        decoded: Decoded::default(),
    };
    match document::for_each_item(file, bytes, &mut |item| collector.take(&item)) {
        Ok(()) => collector.finish(),
        Err(malformed) => Decoded::unreadable(Problem {
            line: malformed.line,
            ..Problem::of_file(
                file,
                malformed.reason,
                "mend the syntax; what the file said before stays",
            )
        }),
    }
}

struct Collector<'a> {
    file: &'a str,
    options: &'a Options,
    interner: &'a mut Interner,
    seen: BTreeSet<ObjectId>,
    /// Problems, the untold ones included.
    found: usize,
    decoded: Decoded,
}

impl Collector<'_> {
    fn take(&mut self, item: &Item<'_>) {
        let nameless = Head::default();
        let (head, result) = match &item.head {
            Ok(head) => {
                let mut notes = Vec::new();
                let result = self.convert(head, &item.body, &mut notes);
                for note in notes {
                    self.problem(head, &item.body, note);
                }
                (head, result)
            }
            Err(rejected) => (&nameless, Err(rejected.clone())),
        };
        match result {
            Ok(Some(object)) if self.seen.insert(object.id()) => self.decoded.objects.push(object),
            Ok(Some(_)) => {
                let reason = "this file has the object twice: the first one counts";
                let twice = Rejected::new("metadata.name", reason, "remove one of them");
                self.problem(head, &item.body, twice);
            }
            Ok(None) => {}
            Err(rejected) => {
                self.decoded.bad.extend(head.id());
                self.problem(head, &item.body, rejected);
            }
        }
    }

    fn problem(&mut self, head: &Head, body: &Body<'_>, rejected: Rejected) {
        self.found += 1;
        if self.found > MOST_PROBLEMS {
            return;
        }
        self.decoded.problems.push(Problem {
            file: Some(self.file.to_owned()),
            line: body.line().map(|line| line + rejected.lines_below),
            object: Some(head.label()),
            about: None,
            field: (!rejected.field.is_empty()).then(|| brief(&rejected.field)),
            reason: brief(&rejected.reason),
            fix: rejected.fix.to_owned(),
        });
    }

    fn finish(mut self) -> Decoded {
        if let more @ 1.. = self.found.saturating_sub(MOST_PROBLEMS) {
            let reason = format!("{more} more problems");
            let problem = Problem::of_file(self.file, reason, "mend the others first");
            self.decoded.problems.push(problem);
        }
        self.decoded
    }

    /// The object, or None for one that is not ours.
    fn convert(
        &mut self,
        head: &Head,
        body: &Body<'_>,
        notes: &mut Vec<Rejected>,
    ) -> Result<Option<Object>, Rejected> {
        let interner = &mut *self.interner;
        match (head.api_version.as_str(), head.kind.as_str()) {
            ("v1", "Service") => {
                typed::<v1::Service>(body)?.to_object(self.options, interner, notes)
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                typed::<discovery::EndpointSlice>(body)?.to_object(self.options, interner, notes)
            }
            ("v1", "Pod") => {
                let manifest = typed_by_others::<v1::Pod>(body, notes)?;
                manifest.to_object(self.options, interner, notes)
            }
            ("v1", "Node") => {
                let manifest = typed_by_others::<v1::Node>(body, notes)?;
                manifest.to_object(self.options, interner, notes)
            }
            ("v1", "Namespace") => {
                let manifest = typed_by_others::<v1::Namespace>(body, notes)?;
                let name = metadata::cluster_name(&manifest.metadata, interner)?;
                Ok(Some(Object::Namespace(name)))
            }
            ("", _) => Err(incomplete("apiVersion")),
            (_, "") => Err(incomplete("kind")),
            (version, kind) => {
                if let Some(meant) = mistaken(version, kind) {
                    return Err(meant);
                }
                notes.extend(not_enforced(version, kind));
                self.unused(version, kind);
                Ok(None)
            }
        }
    }

    fn unused(&mut self, version: &str, kind: &str) {
        if !kind.ends_with("List") && self.decoded.unused.len() <= MOST_PROBLEMS {
            let unused = brief(&format!("{kind} ({version})"));
            self.decoded.unused.insert(unused);
        }
    }
}

/// One of our kinds, but for the version or for capital letters.
fn mistaken(version: &str, kind: &str) -> Option<Rejected> {
    let known = Kind::ALL.map(|kind| (kind.name(), api_version(kind)));
    let (name, wanted) = known
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(kind))?;
    if group(version) != group(wanted) {
        return None;
    }
    if name != kind {
        let reason = format!("{kind:?} is no kind, but {name} is");
        return Some(Rejected::new("kind", reason, "write it as the API does"));
    }
    let reason = format!("{version:?} is not read; {name} is of {wanted}");
    Some(Rejected::new(
        "apiVersion",
        reason,
        "write it in that version",
    ))
}

const fn api_version(kind: Kind) -> &'static str {
    match kind {
        Kind::EndpointSlice => "discovery.k8s.io/v1",
        Kind::Namespace | Kind::Node | Kind::Pod | Kind::Service => "v1",
    }
}

fn group(version: &str) -> &str {
    version.split_once('/').map_or("", |(group, _)| group)
}

/// Whoever writes a policy believes that it holds.
fn not_enforced(version: &str, kind: &str) -> Option<Rejected> {
    let policies = [
        ("networking.k8s.io", "NetworkPolicy"),
        ("policy.networking.k8s.io", "ClusterNetworkPolicy"),
    ];
    policies.contains(&(group(version), kind)).then(|| {
        Rejected::new(
            "",
            "this version of the agent enforces no policies",
            "have another enforce it",
        )
    })
}

fn incomplete(field: &str) -> Rejected {
    Rejected::new(
        field,
        "a manifest has apiVersion and kind",
        "add what is missing",
    )
}
