//! One Service: which frontends it holds and where their connections go. Store in, `Desired` and what its
//! owner should be told out.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use mesh_common::{Address, FrontendKey};

use super::{
    Access, Desired, DesiredPort, Family, Finding, PortId, SourceRange, Weight,
    endpoints::Endpoints,
    health,
    here::Here,
    lost::Lost,
    pods, slices,
    suspects::Suspects,
    topology::{Ignored, Topology},
};
use crate::{
    model::{ObjectId, ObjectName, Pod, Service, ServicePort, TrafficPolicy},
    store::{Exposure, Store, cluster_ips},
};

/// What the kernel should hold for a Service; nothing for one that does not exist, is headless or an ExternalName.
pub(super) fn desired_service(store: &Store, name: &ObjectName) -> (Desired, Vec<Finding>) {
    let mut desired = Desired::default();
    let Some(service) = store.service(name) else {
        return (desired, Vec::new());
    };
    let owner = ObjectId::service(name);
    let mut lost = Lost::default();
    let mut taken = BTreeSet::new();
    let mut suspects = Suspects::of(uses_local(service));
    let mut ignored = BTreeSet::new();
    let here = Here::of(store);
    let pods = pods_of(store, service);
    for port in &service.ports {
        let mut frontends = store.frontends(service, port);
        frontends
            .retain(|key, exposure| lost.wins(store, &owner, key, *exposure) && taken.insert(*key));
        for family in Family::ALL {
            let own = frontends.iter();
            let own = own.filter(|(key, _)| Family::of(key.address()) == family);
            let own: Vec<(FrontendKey, Exposure)> = own.map(|(key, it)| (*key, *it)).collect();
            // A port that nobody can reach needs no backends.
            if own.is_empty() {
                continue;
            }
            let id = PortId {
                owner: owner.clone(),
                family,
                protocol: port.protocol,
                port: port.port,
            };
            let endpoints = endpoints(store, service, &pods, port, family, &mut suspects);
            let verdict = endpoints.topology(here.zone.is_some());
            ignored.extend(verdict.ignored.filter(|it| *it == Ignored::NoZone));
            let port = desired_port(service, family, endpoints, verdict.topology, own);
            desired.ports.insert(id, port);
        }
    }
    let won =
        |address: &Address| store.winner(&FrontendKey::whole_address(*address)) == Some(&owner);
    desired.addresses = cluster_ips(service).filter(won).collect();
    desired.health = health::health_check(store, service);
    let mut findings = lost.findings(&owner);
    findings.extend(suspects.findings());
    findings.extend(ignored.into_iter().map(|it| unheeded(service, it)));
    findings.extend(unmatched(store, service, &pods));
    findings.extend(strange_node_port(store, service));
    (desired, findings)
}

/// Whether a traffic policy that counts is Local: the external one does where there is anything external.
fn uses_local(service: &Service) -> bool {
    let is_external = service.ports.iter().any(|port| port.node_port.is_some())
        || !service.external_ips.is_empty()
        || !service.load_balancer_ips.is_empty();
    service.internal_policy == TrafficPolicy::Local
        || is_external && service.external_policy == TrafficPolicy::Local
}

/// A node port that the cluster does not give out: source NAT may use its number.
fn strange_node_port(store: &Store, service: &Service) -> Option<Finding> {
    let range = store.node_ports()?;
    let mut numbers = service.ports.iter().filter_map(|port| port.node_port);
    let number = numbers.find(|number| !range.has(*number))?;
    Some(Finding {
        object: ObjectId::service(&service.name),
        field: "spec.ports[].nodePort".to_owned(),
        reason: format!(
            "{number} is served, but it is not in --nodeport-range {range}, so that connections of this node may \
             leave from the same port"
        ),
        fix: "give the agent the range that the API server has (--service-node-port-range)"
            .to_owned(),
        weight: Weight::Note,
    })
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
    let is_meant = !service.selector.is_empty() && cluster_ips(service).next().is_some();
    (looked && is_empty && is_meant).then(|| Finding {
        object: ObjectId::service(&service.name),
        field: "spec.selector".to_owned(),
        reason: "it matches no Pod that has an address, so connections are refused".to_owned(),
        fix: "if none was meant to be there nothing, else compare the labels of the Pods"
            .to_owned(),
        weight: Weight::Note,
    })
}

fn endpoints(
    store: &Store,
    service: &Service,
    pods: &[&Pod],
    port: &ServicePort,
    family: Family,
    suspects: &mut Suspects,
) -> Endpoints {
    let here = Here::of(store);
    let mut endpoints = Endpoints::default();
    for slice in store.slices_of(&service.name) {
        slices::add(&mut endpoints, slice, port, family, &here, suspects);
    }
    for pod in pods {
        pods::add(&mut endpoints, pod, service, port, family, (store, &here));
    }
    endpoints
}

/// Every endpoint of a service port, used or not.
#[must_use]
pub fn endpoints_of(
    store: &Store,
    service: &Service,
    port: &ServicePort,
    family: Family,
) -> Endpoints {
    let pods = pods_of(store, service);
    let mut suspects = Suspects::default();
    endpoints(store, service, &pods, port, family, &mut suspects)
}

/// Hints that cannot be followed for a reason that somebody can mend.
fn unheeded(service: &Service, ignored: Ignored) -> Finding {
    // Hints come of one of the two.
    let field = match service.distribution {
        Some(_) => "spec.trafficDistribution",
        None => "metadata.annotations[service.kubernetes.io/topology-mode]",
    };
    Finding {
        object: ObjectId::service(&service.name),
        field: field.to_owned(),
        reason: ignored.text().to_owned(),
        fix: "give the Node the label topology.kubernetes.io/zone".to_owned(),
        weight: Weight::Note,
    }
}

fn desired_port(
    service: &Service,
    family: Family,
    endpoints: Endpoints,
    topology: Topology,
    frontends: Vec<(FrontendKey, Exposure)>,
) -> DesiredPort {
    let ranges = ranges(service, family);
    let frontends: BTreeMap<FrontendKey, Access> = frontends
        .into_iter()
        .map(|(key, exposure)| (key, access(exposure, &ranges)))
        .collect();
    let is_used = frontends.values().any(|access| *access == Access::Ranges);
    let is_local = |access: &Access| {
        let policy = match access {
            Access::Cluster => service.internal_policy,
            Access::External | Access::Ranges | Access::Host => service.external_policy,
        };
        policy == TrafficPolicy::Local
    };
    let split = endpoints.split(topology, frontends.values().any(is_local));
    DesiredPort {
        affinity_seconds: service.affinity_seconds.unwrap_or(0),
        frontends,
        ranges: if is_used { ranges } else { BTreeSet::new() },
        internal: service.internal_policy,
        external: service.external_policy,
        ready: split.ready,
        local: split.local,
        draining: split.draining,
    }
}

/// As in kube-proxy, ranges of one family alone leave the other open to all.
fn ranges(service: &Service, family: Family) -> BTreeSet<SourceRange> {
    let of_family = |range: &&IpNet| Family::of(range.addr().into()) == family;
    let ranges = service.source_ranges.iter().filter(of_family);
    ranges.map(|range| (*range).into()).collect()
}

fn access(exposure: Exposure, ranges: &BTreeSet<SourceRange>) -> Access {
    match exposure {
        Exposure::ClusterIp => Access::Cluster,
        Exposure::LoadBalancerIp if !ranges.is_empty() => Access::Ranges,
        Exposure::LoadBalancerIp
        | Exposure::NodePort
        | Exposure::ExternalIp
        | Exposure::HostPort => Access::External,
    }
}
