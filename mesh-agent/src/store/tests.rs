//! What a change touches.

use super::*;
use crate::engine::tests::words::{change, name};

fn touch(store: &mut Store, line: &str) -> (Vec<String>, Vec<String>) {
    let mut touched = Touched::default();
    store.apply(change(line), &mut touched);
    (
        touched
            .owners
            .iter()
            .map(|owner| &owner.name)
            .map(ToString::to_string)
            .collect(),
        touched.died.iter().map(ToString::to_string).collect(),
    )
}

fn services(store: &mut Store, line: &str) -> Vec<String> {
    touch(store, line).0
}

#[test]
fn a_pod_touches_the_services_that_select_it_before_or_after() {
    let mut store = Store::default();
    touch(
        &mut store,
        "service a/web ip=10.96.0.1 select=app:web select=tier:front",
    );
    touch(&mut store, "service a/api ip=10.96.0.2 select=app:api");
    touch(&mut store, "service b/web ip=10.96.0.3 select=app:web");
    let none: [&str; 0] = [];
    assert_eq!(
        services(&mut store, "pod a/p ip=10.0.0.1 label=app:web"),
        none
    );
    let line = "pod a/p ip=10.0.0.1 label=app:web label=tier:front";
    assert_eq!(services(&mut store, line), ["a/web"]);
    let line = "pod a/p ip=10.0.0.1 label=app:api";
    assert_eq!(services(&mut store, line), ["a/api", "a/web"]);
    assert_eq!(services(&mut store, "remove pod a/p"), ["a/api"]);
}

#[test]
fn a_slice_touches_the_service_it_leaves_and_the_one_it_joins() {
    let mut store = Store::default();
    assert_eq!(
        services(&mut store, "slice a/e of=web at=10.0.0.1"),
        ["a/web"]
    );
    assert_eq!(
        services(&mut store, "slice a/e of=api at=10.0.0.1"),
        ["a/api", "a/web"]
    );
    assert_eq!(store.slices_of(&name("a/web")).count(), 0);
    assert_eq!(store.slices_of(&name("a/api")).count(), 1);
}

#[test]
fn an_address_dies_with_its_last_slice_and_pod() {
    let mut store = Store::default();
    touch(&mut store, "slice a/e1 of=web at=10.0.0.1 at=10.0.0.2");
    touch(&mut store, "slice a/e2 of=web at=10.0.0.1");
    touch(&mut store, "pod a/p ip=10.0.0.2");
    let (_, died) = touch(&mut store, "remove slice a/e1");
    assert!(died.is_empty());
    let (_, died) = touch(&mut store, "pod a/p ip=10.0.0.2 phase=Succeeded");
    assert_eq!(died, ["10.0.0.2"]);
    let (_, died) = touch(&mut store, "slice a/e2 of=web at=10.0.0.1");
    assert!(died.is_empty());
    let (_, died) = touch(&mut store, "remove slice a/e2");
    assert_eq!(died, ["10.0.0.1"]);
}

#[test]
fn services_of_one_address_touch_each_other() {
    let mut store = Store::default();
    touch(
        &mut store,
        "service a/old ip=10.96.0.1 port=http/TCP/80 created=1",
    );
    // A loser takes nothing away from the winner.
    let line = "service a/new ip=10.96.0.1 port=http/TCP/80 created=2";
    assert!(services(&mut store, line).contains(&"a/new".to_owned()));
    assert_eq!(
        services(&mut store, "remove service a/old"),
        ["a/new", "a/old"]
    );
}

/// (Services and Pods touched by a change of the node's addresses) of a store with one of each kind.
#[test]
fn the_nodes_addresses_touch_what_is_served_there() {
    let mut store = crate::engine::tests::store();
    assert!(!store.knows_addresses());
    touch(&mut store, "addresses 192.0.2.1");
    assert!(store.knows_addresses());
    touch(&mut store, "service a/inside ip=10.96.0.1 port=http/TCP/80");
    touch(
        &mut store,
        "service a/web ip=10.96.0.2 port=http/TCP/80@30080",
    );
    touch(
        &mut store,
        "pod a/here ip=10.0.0.1 port=http/TCP/80@80 node=one",
    );
    touch(
        &mut store,
        "pod a/there ip=10.0.0.2 port=http/TCP/80@80 node=two",
    );
    let touched = services(&mut store, "addresses 192.0.2.1 192.0.2.2");
    assert_eq!(touched, ["a/here", "a/web"]);
    let none: [&str; 0] = [];
    assert_eq!(services(&mut store, "addresses 192.0.2.1 192.0.2.2"), none);
    touch(&mut store, "service a/web ip=10.96.0.2 port=http/TCP/80");
    assert_eq!(services(&mut store, "addresses 192.0.2.9"), ["a/here"]);
}

#[test]
fn primary_follows_the_node_object() {
    let mut store = Store::new(StoreOptions {
        node: "one".to_owned(),
        node_port_addresses: NodePortAddresses::Primary,
        ..StoreOptions::default()
    });
    touch(&mut store, "addresses 192.0.2.1 192.0.2.2");
    touch(
        &mut store,
        "service a/web ip=10.96.0.2 port=http/TCP/80@30080",
    );
    let none: [&str; 0] = [];
    assert_eq!(services(&mut store, "node two ip=192.0.2.9"), none);
    assert_eq!(services(&mut store, "node one ip=192.0.2.2"), ["a/web"]);
    let address: IpAddr = "192.0.2.2".parse().unwrap();
    let key = FrontendKey::new(address.into(), mesh_common::Port::new(30080), 6);
    assert_eq!(store.winner(&key), Some(&ObjectId::service(&name("a/web"))));
}

/// With an API server only this node's Pods are known: they are no endpoints, but keep their addresses alive.
#[test]
fn where_slices_alone_count_pods_make_no_endpoints() {
    let mut store = Store::new(StoreOptions {
        slices_only: true,
        ..StoreOptions::default()
    });
    touch(
        &mut store,
        "service a/web ip=10.96.0.1 port=http/TCP/80 select=app:web",
    );
    let none: [&str; 0] = [];
    assert_eq!(
        services(&mut store, "pod a/p ip=10.0.0.1 label=app:web"),
        none
    );
    let service = store.service(&name("a/web")).unwrap();
    assert_eq!(store.pods_of(service).count(), 0);
    assert!(!store.has_pods());
    touch(&mut store, "pod a/h ip=192.0.2.1 hostnetwork");
    assert!(!store.is_alive(Address::from("192.0.2.1".parse::<IpAddr>().unwrap())));
    assert!(store.is_alive(Address::from("10.0.0.1".parse::<IpAddr>().unwrap())));
}
