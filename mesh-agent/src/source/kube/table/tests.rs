//! Lists and events against a table.

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice as Slice};
use serde_json::json;

use super::*;

fn service(name: &str, version: &str, address: &str) -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "a", "resourceVersion": version},
        "spec": {"clusterIP": address, "ports": [{"port": 80}]},
    }))
    .unwrap()
}

fn kubernetes(version: &str, addresses: &[&str]) -> Slice {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|it| json!({"addresses": [it]}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "kubernetes", "namespace": "default", "resourceVersion": version,
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4", "ports": [{"name": "https", "port": 6443}], "endpoints": endpoints,
    }))
    .unwrap()
}

/// A change in a few words.
fn words(changes: &[Change]) -> Vec<String> {
    let word = |change: &Change| match change {
        Change::Put(object) => format!("put {}", object.id().name),
        Change::Remove(id) => format!("remove {}", id.name),
        Change::Synced(kind) => format!("synced {kind}"),
        Change::Incomplete(it) => format!("incomplete {it}"),
        Change::NodeAddresses(it) => format!("addresses {it:?}"),
    };
    changes.iter().map(word).collect()
}

struct World(Table);

impl World {
    fn new(kind: Kind) -> Self {
        Self(Table::new(kind, Options::default()))
    }

    fn list<M: Manifest>(&mut self, manifests: Vec<M>) -> Vec<String> {
        let mut changes = self.0.take(Event::<M>::Init);
        for manifest in manifests {
            changes.extend(self.0.take(Event::InitApply(manifest)));
        }
        changes.extend(self.0.take(Event::<M>::InitDone));
        words(&changes)
    }

    fn apply<M: Manifest>(&mut self, manifest: M) -> Vec<String> {
        words(&self.0.take(Event::Apply(manifest)))
    }
}

#[test]
fn a_relist_tells_the_difference_alone() {
    let mut world = World::new(Kind::Service);
    let both = || {
        vec![
            service("x", "1", "10.96.0.1"),
            service("y", "2", "10.96.0.2"),
        ]
    };
    assert_eq!(world.list(both()), ["put a/x", "put a/y", "synced Service"]);
    assert!(world.list(both()).is_empty());
    let changed = vec![
        service("y", "3", "10.96.0.3"),
        service("z", "4", "10.96.0.4"),
    ];
    assert_eq!(world.list(changed), ["put a/y", "put a/z", "remove a/x"]);
    // A list that is cut off takes nothing away.
    world.0.take(Event::<Service>::Init);
    assert!(world.apply(service("y", "3", "10.96.0.3")).is_empty());
    let gone = world.0.take(Event::Delete(service("z", "5", "10.96.0.4")));
    assert_eq!(words(&gone), ["remove a/z"]);
}

#[test]
fn a_bad_object_keeps_its_last_good_version() {
    let mut world = World::new(Kind::Service);
    world.list(vec![
        service("x", "1", "10.96.0.1"),
        service("y", "1", "127.0.0.1"),
    ]);
    assert!(world.0.is_incomplete());
    assert_eq!(world.0.problems().count(), 1);
    assert_eq!(world.apply(service("y", "2", "10.96.0.2")), ["put a/y"]);
    assert!(!world.0.is_incomplete() && world.0.problems().count() == 0);
    assert!(world.apply(service("x", "3", "127.0.0.1")).is_empty());
    let problem = world.0.problems().next().unwrap().to_string();
    assert!(
        problem.starts_with("Service a/x: spec.clusterIP: "),
        "{problem}"
    );
    assert!(!world.0.is_incomplete());
}

#[test]
fn a_bad_object_that_goes_leaves_nothing_unread() {
    let mut world = World::new(Kind::Service);
    world.list(vec![service("y", "1", "127.0.0.1")]);
    let gone = world.0.take(Event::Delete(service("y", "2", "127.0.0.1")));
    assert!(gone.is_empty() && !world.0.is_incomplete());
    world.apply(service("y", "3", "127.0.0.1"));
    assert!(world.0.is_incomplete());
    assert!(world.list(Vec::<Service>::new()).is_empty());
    assert!(!world.0.is_incomplete() && world.0.problems().count() == 0);
}

#[test]
fn what_becomes_anothers_is_removed() {
    let mut world = World::new(Kind::Service);
    world.list(vec![service("x", "1", "10.96.0.1")]);
    let mut other = service("x", "2", "10.96.0.1");
    let label = (
        "service.kubernetes.io/service-proxy-name".to_owned(),
        "other".to_owned(),
    );
    other.metadata.labels = Some([label].into());
    assert_eq!(world.apply(other), ["remove a/x"]);
}

#[test]
fn the_api_server_keeps_its_endpoints_while_it_is_away() {
    let mut world = World::new(Kind::EndpointSlice);
    world.list(vec![kubernetes("1", &["192.0.2.1"])]);
    assert!(world.apply(kubernetes("2", &[])).is_empty());
    assert_eq!(world.0.problems().count(), 1);
    let gone = world.0.take(Event::Delete(kubernetes("3", &[])));
    assert!(gone.is_empty());
    assert!(world.list(Vec::<Slice>::new()).is_empty());
    assert_eq!(
        world.apply(kubernetes("4", &["192.0.2.2"])),
        ["put default/kubernetes"]
    );
    assert_eq!(world.0.problems().count(), 0);
}
