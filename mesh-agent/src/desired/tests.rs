//! Single rules; the engine's scenarios and laws hold the whole.

use super::*;
use crate::{
    engine::tests::words::{change, name},
    store::{Store, StoreOptions, Touched},
};

fn store(lines: &[&str]) -> Store {
    let mut store = Store::default();
    for line in lines {
        store.apply(change(line), &mut Touched::default());
    }
    store
}

fn of(store: &Store, service: &str) -> (Desired, Vec<Finding>) {
    desired(store, &ObjectId::service(&name(service)))
}

fn texts(targets: &BTreeSet<Target>) -> Vec<String> {
    let text = |target: &Target| format!("{}:{}", target.address, target.port);
    targets.iter().map(text).collect()
}

/// (ready, draining) of the only port.
fn endpoints(lines: &[&str]) -> (Vec<String>, Vec<String>) {
    let (desired, _) = of(&store(lines), "a/web");
    let port = desired.ports.values().next().unwrap();
    (texts(&port.ready), texts(&port.draining))
}

const WEB: &str = "service a/web ip=10.96.0.1 port=http/TCP/80/web select=app:web";

#[test]
fn terminating_endpoints_serve_if_nobody_else_does() {
    let slice = "slice a/e of=web port=http/TCP/80 at=10.0.0.1,terminating at=10.0.0.2,finished";
    let (ready, draining) = endpoints(&[WEB, slice]);
    assert_eq!(ready, ["10.0.0.1:80"]);
    assert_eq!(draining, ["10.0.0.2:80"]);
    let more = "slice a/f of=web port=http/TCP/80 at=10.0.0.3";
    let (ready, draining) = endpoints(&[WEB, slice, more]);
    assert_eq!(ready, ["10.0.0.3:80"]);
    assert_eq!(draining, ["10.0.0.1:80", "10.0.0.2:80"]);
}

#[test]
fn where_slices_disagree_ready_wins() {
    let one = "slice a/e of=web port=http/TCP/80 at=10.0.0.1,unready";
    let two = "slice a/f of=web port=http/TCP/80 at=10.0.0.1";
    assert_eq!(endpoints(&[WEB, one, two]).0, ["10.0.0.1:80"]);
    let (_, findings) = of(&store(&[WEB, one, two]), "a/web");
    let texts: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    let starts = "EndpointSlice a/f: endpoints[0].conditions: 10.0.0.1 has other conditions";
    assert!(texts[0].starts_with(starts), "{texts:?}");
    let (_, findings) = of(&store(&[WEB, two]), "a/web");
    assert_eq!(findings, []);
}

#[test]
fn ports_match_by_name_and_protocol() {
    let slice = "slice a/e of=web port=http/UDP/1 port=https/TCP/2 port=http/TCP/3 at=10.0.0.1";
    assert_eq!(endpoints(&[WEB, slice]).0, ["10.0.0.1:3"]);
}

#[test]
fn pods_make_endpoints_if_there_is_no_slice() {
    let pods = [
        WEB,
        "pod a/p1 ip=10.0.0.1 label=app:web port=web/TCP/8080",
        "pod a/p2 ip=10.0.0.2 label=app:web port=web/TCP/8081 unready",
        "pod a/p3 ip=10.0.0.3 label=app:web port=web/TCP/8082 terminating",
        "pod a/p4 ip=10.0.0.4 label=app:web port=web/TCP/8083 phase=Succeeded",
        "pod a/p5 ip=10.0.0.5 label=app:web port=other/TCP/8084",
        "pod b/p6 ip=10.0.0.6 label=app:web port=web/TCP/8085",
    ];
    let (ready, draining) = endpoints(&pods);
    assert_eq!(ready, ["10.0.0.1:8080"]);
    assert_eq!(draining, ["10.0.0.2:8081", "10.0.0.3:8082"]);
    let slice = "slice a/e of=web port=http/TCP/80 at=10.0.0.9";
    assert_eq!(endpoints(&[pods[0], pods[1], slice]).0, ["10.0.0.9:80"]);
}

#[test]
fn unready_pods_are_published_on_demand() {
    let service = "service a/web ip=10.96.0.1 port=http/TCP/80 select=app:web publish";
    let pod = "pod a/p ip=10.0.0.1 label=app:web unready";
    assert_eq!(endpoints(&[service, pod]).0, ["10.0.0.1:80"]);
}

#[test]
fn headless_and_external_services_hold_nothing() {
    for service in [
        "service a/web port=http/TCP/80",
        "service a/web port=http/TCP/80 ip=10.96.0.1 external",
    ] {
        let (desired, findings) = of(&store(&[service]), "a/web");
        assert_eq!((desired, findings), (Desired::default(), Vec::new()));
    }
}

#[test]
fn the_older_service_keeps_its_address() {
    let store = store(&[
        "service a/new ip=10.96.0.1 port=http/TCP/80 port=https/TCP/443 port=x/TCP/81 created=2",
        "service b/old ip=10.96.0.1 port=http/TCP/80 port=https/TCP/443 created=1",
        "service a/undated ip=10.96.0.1 port=http/TCP/80",
    ]);
    let (old, findings) = of(&store, "b/old");
    assert_eq!((old.ports.len(), old.addresses.len()), (2, 1));
    assert!(findings.is_empty());
    let (new, findings) = of(&store, "a/new");
    assert_eq!((new.ports.len(), new.addresses.len()), (1, 0));
    assert_eq!(
        findings[0].to_string(),
        "Service a/new: spec.clusterIPs: 10.96.0.1 port 80/TCP and 1 more belongs to Service b/old, which is older \
         or, of one age, first by name; give one of the two another ClusterIP, or delete it"
    );
    let (_, findings) = of(&store, "a/undated");
    assert_eq!(findings.len(), 1);
}

#[test]
fn a_selector_that_matches_nothing_is_noted_once_somebody_has_looked() {
    let noted = |lines: &[&str]| {
        let (_, findings) = of(&store(lines), "a/web");
        findings
            .iter()
            .any(|finding| finding.field == "spec.selector" && finding.weight == Weight::Note)
    };
    let empty = "slice a/e of=web port=http/TCP/80";
    let unready = "slice a/e of=web port=http/TCP/80 at=10.0.0.1,unready";
    assert!(!noted(&[WEB]));
    assert!(noted(&[WEB, empty]));
    assert!(!noted(&[WEB, unready]));
    let without = "service a/web ip=10.96.0.1 port=http/TCP/80/web";
    assert!(!noted(&[without, empty]));
}

#[test]
fn a_node_port_out_of_the_clusters_range_is_noted_and_served() {
    let mut store = Store::new(StoreOptions {
        node_ports: Some("30000-32767".parse().unwrap()),
        ..StoreOptions::default()
    });
    for line in [
        "addresses 192.0.2.1",
        "service a/web ip=10.96.0.1 port=http/TCP/80@30080 port=https/TCP/443@40443",
    ] {
        store.apply(change(line), &mut Touched::default());
    }
    let (desired, findings) = of(&store, "a/web");
    let frontends = desired.ports.values().map(|port| port.frontends.len());
    assert_eq!(frontends.sum::<usize>(), 4);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].weight, Weight::Note);
    assert!(
        findings[0].reason.starts_with("40443 is served"),
        "{}",
        findings[0]
    );
}
