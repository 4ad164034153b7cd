//! What a Service's load balancer is told of this node: how many of its endpoints are here.

use std::collections::BTreeSet;

use mesh_common::Address;

use super::{Family, endpoints::Use, service::endpoints_of};
use crate::{
    model::{Service, ServicePort},
    store::Store,
};

/// Ready endpoints of a Service on this node, of whichever family has more: a Pod of both is one. As in kube-proxy those of
/// any of its ports count.
#[must_use]
pub fn local_endpoints(store: &Store, service: &Service) -> usize {
    let of_family = |family: Family| {
        let ports = service.ports.iter();
        let addresses: BTreeSet<Address> = ports
            .flat_map(|port| local(store, service, port, family))
            .collect();
        addresses.len()
    };
    Family::ALL.into_iter().map(of_family).max().unwrap_or(0)
}

fn local(store: &Store, service: &Service, port: &ServicePort, family: Family) -> Vec<Address> {
    let endpoints = endpoints_of(store, service, port, family);
    let local = endpoints
        .iter()
        .filter(|(_, facts)| facts.local && facts.usable == Use::Ready);
    local.map(|(target, _)| target.address).collect()
}
