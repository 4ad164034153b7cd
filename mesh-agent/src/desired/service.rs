//! One Service: which frontends it holds and where their connections go. Store in, `DesiredService` and what its
//! owner should be told out.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{Address, FrontendKey, Port};

use super::{
    DesiredPort, DesiredService, Family, Finding, PortId, Weight, contradiction::Contradictions,
    endpoints::Endpoints, pods, slices,
};
use crate::{
    model::{Kind, ObjectId, ObjectName, Pod, Service, ServicePort},
    store::{Store, served_addresses},
};

/// What the kernel should hold for a Service; nothing for one that does not exist, is headless or an ExternalName.
#[must_use]
pub fn desired_service(store: &Store, name: &ObjectName) -> (DesiredService, Vec<Finding>) {
    let mut desired = DesiredService::default();
    let mut lost = Lost::default();
    let mut contradictions = Contradictions::default();
    let Some(service) = store.service(name) else {
        return (desired, Vec::new());
    };
    let pods = pods_of(store, service);
    for family in Family::ALL {
        let addresses = addresses(service, family);
        for port in &service.ports {
            let frontends = frontends(store, service, port, &addresses, &mut lost);
            // A port that nobody can reach needs no backends.
            if !frontends.is_empty() {
                let port_id = PortId {
                    service: name.clone(),
                    family,
                    protocol: port.protocol,
                    port: port.port,
                };
                let endpoints = endpoints(store, service, &pods, port, family, &mut contradictions);
                let port = desired_port(service, endpoints, frontends);
                desired.ports.insert(port_id, port);
            }
        }
        let won =
            |address: &Address| store.winner(&FrontendKey::whole_address(*address)) == Some(name);
        desired.addresses.extend(addresses.into_iter().filter(won));
    }
    let mut findings = lost.findings(name);
    findings.extend(contradictions.findings());
    findings.extend(unmatched(store, service, &pods));
    (desired, findings)
}

/// The Pods that endpoints are made from; none if EndpointSlices say where the Service's Pods are.
fn pods_of<'a>(store: &'a Store, service: &'a Service) -> Vec<&'a Pod> {
    if store.slices_of(&service.name).next().is_some() {
        return Vec::new();
    }
    store.pods_of(service).collect()
}

/// A selector that matches nothing. Where there is neither an EndpointSlice nor any Pod, nobody has looked yet.
fn unmatched(store: &Store, service: &Service, pods: &[&Pod]) -> Option<Finding> {
    let mut slices = store.slices_of(&service.name).peekable();
    let looked = slices.peek().is_some() || store.has_pods();
    let is_empty = slices.all(|slice| slice.endpoints.is_empty()) && pods.is_empty();
    let is_meant = !service.selector.is_empty() && !served_addresses(service).is_empty();
    (looked && is_empty && is_meant).then(|| Finding {
        object: ObjectId {
            kind: Kind::Service,
            name: service.name.clone(),
        },
        field: "spec.selector".to_owned(),
        reason: "it matches no Pod that has an address, so connections are refused".to_owned(),
        fix: "if none was meant to be there nothing, else compare the labels of the Pods"
            .to_owned(),
        weight: Weight::Note,
    })
}

fn addresses(service: &Service, family: Family) -> Vec<Address> {
    served_addresses(service)
        .iter()
        .map(|address| Address::from(*address))
        .filter(|address| Family::of(*address) == family)
        .collect()
}

fn frontends(
    store: &Store,
    service: &Service,
    port: &ServicePort,
    addresses: &[Address],
    lost: &mut Lost,
) -> BTreeSet<FrontendKey> {
    let mut won = BTreeSet::new();
    for address in addresses {
        let key = FrontendKey::new(*address, Port::new(port.port), port.protocol.number());
        match store.winner(&key) {
            Some(winner) if *winner == service.name => {
                won.insert(key);
            }
            Some(winner) => lost.add(*address, port, winner),
            None => {}
        }
    }
    won
}

fn endpoints(
    store: &Store,
    service: &Service,
    pods: &[&Pod],
    port: &ServicePort,
    family: Family,
    contradictions: &mut Contradictions,
) -> Endpoints {
    let mut endpoints = Endpoints::default();
    for slice in store.slices_of(&service.name) {
        slices::add(&mut endpoints, slice, port, family, contradictions);
    }
    for pod in pods {
        pods::add(&mut endpoints, pod, service, port, family);
    }
    endpoints
}

fn desired_port(
    service: &Service,
    endpoints: Endpoints,
    frontends: BTreeSet<FrontendKey>,
) -> DesiredPort {
    let (ready, draining) = endpoints.split();
    DesiredPort {
        affinity_seconds: service.affinity_seconds.unwrap_or(0),
        frontends,
        ready,
        draining,
    }
}

/// Frontends that other Services hold: first port and number of ports, by address and holder.
#[derive(Default)]
struct Lost(BTreeMap<(Address, ObjectName), (String, usize)>);

impl Lost {
    fn add(&mut self, address: Address, port: &ServicePort, winner: &ObjectName) {
        let first = || format!("port {}/{}", port.port, port.protocol.name());
        let entry = self
            .0
            .entry((address, winner.clone()))
            .or_insert_with(|| (first(), 0));
        entry.1 += 1;
    }

    /// One finding for each address and holder, however many ports it is about.
    fn findings(self, name: &ObjectName) -> Vec<Finding> {
        let finding = |((address, winner), (first, count)): ((Address, _), (String, usize))| {
            let ports = match count {
                1 => first,
                more => format!("{first} and {} more", more - 1),
            };
            Finding {
                object: ObjectId {
                    kind: Kind::Service,
                    name: name.clone(),
                },
                field: "spec.clusterIPs".to_owned(),
                reason: format!(
                    "{address} {ports} belongs to Service {winner}, which is older or, of one age, first by name"
                ),
                fix: "give one of the two another ClusterIP, or delete it".to_owned(),
                weight: Weight::Problem,
            }
        };
        self.0.into_iter().map(finding).collect()
    }
}
