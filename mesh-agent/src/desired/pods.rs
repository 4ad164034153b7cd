//! Endpoints from Pods, as the controllers would make them, for a Service that has a selector and no EndpointSlice.

use mesh_common::{Address, Port};

use super::{
    Family, Target,
    endpoints::{Endpoints, Facts, Use},
    here::{Here, zone},
    topology::Hint,
};
use crate::{
    model::{Pod, PodPhase, Service, ServicePort, TargetPort, TrafficDistribution},
    store::Store,
};

/// Adds what one Pod has for a service port in one family.
pub(super) fn add(
    endpoints: &mut Endpoints,
    pod: &Pod,
    service: &Service,
    port: &ServicePort,
    family: Family,
    (store, here): (&Store, &Here<'_>),
) {
    if matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed) {
        return;
    }
    let Some(address) = address(pod, family) else {
        return;
    };
    let Some(number) = target_port(pod, port) else {
        return;
    };
    let target = Target {
        address,
        port: Port::new(number),
    };
    let ready = service.publish_not_ready || (pod.ready && !pod.terminating);
    let (node, zone) = hints(pod, service, store, here);
    let facts = Facts {
        usable: Use::of(ready, pod.ready, pod.terminating),
        local: pod.node.as_deref() == Some(here.node),
        node,
        zone,
    };
    endpoints.add(target, facts);
}

/// As spec.trafficDistribution has it: each Pod is for its own zone, or for its own node first.
fn hints(pod: &Pod, service: &Service, store: &Store, here: &Here<'_>) -> (Hint, Hint) {
    let Some(distribution) = service.distribution else {
        return (Hint::Missing, Hint::Missing);
    };
    let own = pod.node.as_deref();
    let zones = own.and_then(|own| zone(store, own));
    let zone = Hint::of(zones.as_slice(), here.zone);
    match distribution {
        TrafficDistribution::SameZone => (Hint::Missing, zone),
        TrafficDistribution::SameNode => (Hint::of(own.as_slice(), Some(here.node)), zone),
    }
}

/// The Pod's first address of the family.
fn address(pod: &Pod, family: Family) -> Option<Address> {
    pod.addresses
        .iter()
        .map(|address| Address::from(*address))
        .find(|address| Family::of(*address) == family)
}

/// A named port is looked up Pod by Pod; a Pod without it is no endpoint of this port.
fn target_port(pod: &Pod, port: &ServicePort) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => pod
            .ports
            .iter()
            .find(|own| own.name == *name && own.protocol == port.protocol)
            .map(|own| own.port),
    }
}
