//! What a Service's load balancer asks of this node: whether any endpoint is here. In: store and Service. Out: the port to
//! answer on, and how many there are.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::Address;

use super::{Family, endpoints::Use, service::endpoints_of};
use crate::{
    model::{Service, ServicePort},
    store::{Store, cluster_ips},
};

/// Where a Service's health check is answered, and with what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthCheck {
    /// spec.healthCheckNodePort
    pub port: u16,
    /// Ready endpoints on this node, in each family that the Service is served in. As in kube-proxy those of any of its
    /// ports count, and each family answers for itself.
    pub local: BTreeMap<Family, usize>,
}

/// None for a Service that has no health check.
pub(super) fn health_check(store: &Store, service: &Service) -> Option<HealthCheck> {
    let families: BTreeSet<Family> = cluster_ips(service).map(Family::of).collect();
    let count = |family: Family| {
        let ports = service.ports.iter();
        let addresses = ports.flat_map(|port| local(store, service, port, family));
        addresses.collect::<BTreeSet<Address>>().len()
    };
    Some(HealthCheck {
        port: service.health_check_port?,
        local: families.into_iter().map(|it| (it, count(it))).collect(),
    })
}

fn local(store: &Store, service: &Service, port: &ServicePort, family: Family) -> Vec<Address> {
    let endpoints = endpoints_of(store, service, port, family);
    let local = endpoints
        .iter()
        .filter(|(_, facts)| facts.local && facts.usable == Use::Ready);
    local.map(|(target, _)| target.address).collect()
}
