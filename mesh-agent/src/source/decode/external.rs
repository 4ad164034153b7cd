//! What of a Service is for clients outside the cluster: external IPs, load balancers' IPs, whom those are open to, and the
//! traffic policies. As in kube-proxy a part that cannot be used is told and left out, and the rest is served.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, ServiceSpec, ServiceStatus};

use super::{
    address,
    field::{self, Rejected},
};
use crate::model::{ServiceType, TrafficDistribution, TrafficPolicy};

/// spec.externalIPs, each once.
pub(super) fn external_ips(spec: &ServiceSpec, notes: &mut Vec<Rejected>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (index, text) in spec.external_ips.iter().flatten().enumerate() {
        let field = || format!("spec.externalIPs[{index}]");
        match address::service(field, text) {
            Ok(address) if addresses.contains(&address) => {}
            Ok(address) => addresses.push(address),
            Err(rejected) => notes.push(rejected),
        }
    }
    addresses
}

/// status.loadBalancer.ingress[].ip of those that end at the node. What a load balancer in mode Proxy sends comes to the
/// node port, and its own address must stay the load balancer's.
pub(super) fn load_balancer_ips(
    status: Option<&ServiceStatus>,
    notes: &mut Vec<Rejected>,
) -> Vec<IpAddr> {
    let ingress = status
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|load_balancer| load_balancer.ingress.as_deref())
        .unwrap_or_default();
    let mut addresses = Vec::new();
    for (index, ingress) in ingress.iter().enumerate() {
        match load_balancer_ip(index, ingress) {
            Ok(Some(address)) if !addresses.contains(&address) => addresses.push(address),
            Ok(_) => {}
            Err(rejected) => notes.push(rejected),
        }
    }
    addresses
}

/// None for a name and for mode Proxy.
fn load_balancer_ip(
    index: usize,
    ingress: &LoadBalancerIngress,
) -> Result<Option<IpAddr>, Rejected> {
    let at = |field: &str| format!("status.loadBalancer.ingress[{index}].{field}");
    let Some(text) = ingress.ip.as_deref().filter(|ip| !ip.is_empty()) else {
        return Ok(None);
    };
    match ingress.ip_mode.as_deref() {
        None | Some("" | "VIP") => address::service(|| at("ip"), text).map(Some),
        Some("Proxy") => Ok(None),
        Some(other) => Err(Rejected::new(
            at("ipMode"),
            format!("{other:?} is no mode, so {text} is not served"),
            "give VIP or Proxy",
        )),
    }
}

/// spec.loadBalancerSourceRanges. Blanks around a range are allowed, as the API has it.
pub(super) fn source_ranges(spec: &ServiceSpec, notes: &mut Vec<Rejected>) -> BTreeSet<IpNet> {
    let mut ranges = BTreeSet::new();
    for (index, text) in spec
        .load_balancer_source_ranges
        .iter()
        .flatten()
        .enumerate()
    {
        match text.trim().parse::<IpNet>() {
            Ok(range) => {
                ranges.insert(range.trunc());
            }
            Err(_) => notes.push(Rejected::new(
                format!("spec.loadBalancerSourceRanges[{index}]"),
                format!("{text:?} is no range of addresses; the others count"),
                "give ADDRESS/BITS, for example 192.0.2.0/24",
            )),
        }
    }
    ranges
}

/// spec.externalTrafficPolicy or spec.internalTrafficPolicy.
pub(super) fn traffic_policy(
    field: &'static str,
    text: Option<&str>,
) -> Result<TrafficPolicy, Rejected> {
    match text {
        None | Some("" | "Cluster") => Ok(TrafficPolicy::Cluster),
        Some("Local") => Ok(TrafficPolicy::Local),
        Some(other) => Err(Rejected::new(
            field,
            format!("{other:?} is no traffic policy"),
            "give Cluster or Local",
        )),
    }
}

/// One that is not known is as none: it is a preference.
pub(super) fn distribution(
    spec: &ServiceSpec,
    notes: &mut Vec<Rejected>,
) -> Option<TrafficDistribution> {
    match spec.traffic_distribution.as_deref()? {
        "" => None,
        "PreferClose" | "PreferSameZone" => Some(TrafficDistribution::SameZone),
        "PreferSameNode" => Some(TrafficDistribution::SameNode),
        other => {
            notes.push(Rejected::new(
                "spec.trafficDistribution",
                format!(
                    "{other:?} is no traffic distribution, so all endpoints are preferred alike"
                ),
                "give PreferSameZone or PreferSameNode, or remove it",
            ));
            None
        }
    }
}

/// Only load balancers whose external policy is Local ask a node whether it has endpoints.
pub(super) fn health_check_port(
    spec: &ServiceSpec,
    service_type: ServiceType,
    policy: TrafficPolicy,
    notes: &mut Vec<Rejected>,
) -> Option<u16> {
    let number = spec.health_check_node_port.filter(|number| *number != 0)?;
    if service_type != ServiceType::LoadBalancer || policy != TrafficPolicy::Local {
        return None;
    }
    match field::port(|| "spec.healthCheckNodePort".to_owned(), number) {
        Ok(port) => Some(port),
        // The Service is good all the same.
        Err(rejected) => {
            notes.push(rejected);
            None
        }
    }
}
