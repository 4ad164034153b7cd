//! What the EndpointSlice controller writes for the Pods that a Service selects.

use std::collections::BTreeMap;

use crate::{Conditions, Endpoint, Pod, Port, Service, Slice, SlicePort, TargetPort, World};

impl World {
    /// A slice for each family and each set of ports that Pods have: those with one name for two numbers go apart.
    pub(crate) fn controller_slices(&self, service: &Service) -> Vec<Slice> {
        let Some(app) = &service.selector else {
            return Vec::new();
        };
        let mut slices: BTreeMap<(bool, Vec<(String, u16)>), Slice> = BTreeMap::new();
        let selected = self.pods.iter();
        for pod in selected.filter(|pod| pod.app == *app && !pod.is_finished) {
            for is_v4 in [true, false] {
                let mut addresses = pod.addresses.iter();
                let Some(address) = addresses.find(|ip| ip.is_ipv4() == is_v4) else {
                    continue;
                };
                let ports = ports_of(service, pod);
                let key = ports.iter().map(|it| (it.name.clone(), it.port)).collect();
                let number = slices.len();
                let slice = slices.entry((is_v4, key)).or_insert_with(|| Slice {
                    name: format!("{}-made-{number}", service.name),
                    service: service.name.clone(),
                    is_v4,
                    ports,
                    endpoints: Vec::new(),
                });
                slice
                    .endpoints
                    .push(self.endpoint_of(service, pod, *address));
            }
        }
        slices.into_values().collect()
    }

    fn endpoint_of(&self, service: &Service, pod: &Pod, address: std::net::IpAddr) -> Endpoint {
        let distribution = service.distribution.as_deref();
        let zone = self.zone_of(&pod.node);
        Endpoint {
            address,
            conditions: Conditions {
                ready: Some(service.publish_not_ready || pod.is_ready && !pod.is_terminating),
                serving: Some(pod.is_ready),
                terminating: Some(pod.is_terminating),
            },
            node: Some(pod.node.clone()),
            for_zones: match distribution {
                Some("PreferClose" | "PreferSameZone" | "PreferSameNode") => {
                    zone.into_iter().collect()
                }
                Some(_) | None => Vec::new(),
            },
            for_nodes: match distribution {
                Some("PreferSameNode") => vec![pod.node.clone()],
                Some(_) | None => Vec::new(),
            },
        }
    }
}

/// A Pod that does not name a port does not have it.
fn ports_of(service: &Service, pod: &Pod) -> Vec<SlicePort> {
    let number = |port: &Port| match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            let mut own = pod.ports.iter();
            let own = own.find(|it| it.name == *name && it.protocol == port.protocol);
            own.map(|it| it.port)
        }
    };
    let ports = service.ports.iter().filter_map(|port| {
        Some(SlicePort {
            name: port.name.clone(),
            protocol: port.protocol,
            port: number(port)?,
        })
    });
    ports.collect()
}
