//! Where Services and Pods ask to be served: an object and the node's addresses in, frontends out.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{Address, FrontendKey, Port};

use super::StoreOptions;
use crate::{
    desired::Family,
    model::{ContainerPort, Node, Pod, PodPhase, Service, ServicePort, ServiceType},
};

/// By what a frontend is a Service's or a Pod's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exposure {
    /// spec.clusterIPs
    ClusterIp,
    /// An address of the node and spec.ports[].nodePort.
    NodePort,
    /// spec.externalIPs
    ExternalIp,
    /// status.loadBalancer.ingress
    LoadBalancerIp,
    /// An address of the node, or its loopback, and a container's hostPort.
    HostPort,
}

/// The node's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeAddresses {
    /// Where node ports are served.
    node_ports: BTreeSet<Address>,
    /// Where host ports are served: everywhere.
    host_ports: BTreeSet<Address>,
}

impl NodeAddresses {
    /// Of all that the node's devices have. Nobody reaches a node's loopback from elsewhere, and on each pod's own it would
    /// be in the way.
    pub(super) fn new(
        own: &BTreeSet<std::net::IpAddr>,
        node: Option<&Node>,
        options: &StoreOptions,
    ) -> Self {
        let served = |addresses: &BTreeSet<std::net::IpAddr>| {
            let reachable = addresses.iter().filter(|address| is_reachable(**address));
            reachable.map(|address| (*address).into()).collect()
        };
        Self {
            node_ports: served(&options.node_port_addresses.among(own, node)),
            host_ports: served(own),
        }
    }
}

impl NodeAddresses {
    /// Where node ports are served.
    pub(super) fn node_ports(&self) -> BTreeSet<std::net::IpAddr> {
        self.node_ports.iter().map(|it| it.to_ip()).collect()
    }
}

fn is_reachable(address: std::net::IpAddr) -> bool {
    let link_local = match address {
        std::net::IpAddr::V4(_) => false,
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || link_local)
}

/// The ClusterIPs that are served.
pub(crate) fn cluster_ips(service: &Service) -> impl Iterator<Item = Address> {
    let addresses = match service.service_type {
        ServiceType::ExternalName => &[][..],
        ServiceType::ClusterIp | ServiceType::NodePort | ServiceType::LoadBalancer => {
            &service.cluster_ips
        }
    };
    addresses.iter().map(|address| (*address).into())
}

/// Whether any port has a node port.
pub(super) fn has_node_ports(service: &Service) -> bool {
    service.ports.iter().any(|port| port.node_port.is_some())
}

/// A Service port's frontends. As in kube-proxy a family without a ClusterIP is not served at all. One that is asked for
/// in several ways counts as what the load balancer's ranges apply to, if it is that.
pub(super) fn of_service_port(
    service: &Service,
    port: &ServicePort,
    node: &NodeAddresses,
) -> BTreeMap<FrontendKey, Exposure> {
    let families: BTreeSet<Family> = cluster_ips(service).map(Family::of).collect();
    let key = |address: Address, number: u16| {
        FrontendKey::new(address, Port::new(number), port.protocol.number())
    };
    let at_port = |address: Address| key(address, port.port);
    let mut frontends: BTreeMap<FrontendKey, Exposure> = cluster_ips(service)
        .map(|address| (at_port(address), Exposure::ClusterIp))
        .collect();
    let node_ports = port.node_port.into_iter().flat_map(|number| {
        let addresses = node.node_ports.iter();
        addresses.map(move |address| (key(*address, number), Exposure::NodePort))
    });
    let external = service.external_ips.iter();
    let external = external.map(|ip| (at_port((*ip).into()), Exposure::ExternalIp));
    let balanced = service.load_balancer_ips.iter();
    let balanced = balanced.map(|ip| (at_port((*ip).into()), Exposure::LoadBalancerIp));
    let others = node_ports.chain(external).chain(balanced);
    frontends.extend(others.filter(|(key, _)| families.contains(&Family::of(key.address()))));
    frontends
}

/// Whether a Pod has host ports that this node serves: it runs here, in a network of its own.
pub(super) fn has_host_ports(pod: &Pod, options: &StoreOptions) -> bool {
    let runs = !matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
    let here = pod.node.as_deref() == Some(&*options.node);
    runs && here && !pod.host_network && pod.ports.iter().any(|port| port.host.is_some())
}

/// A container port's frontends: its host port on the node's addresses of the families that the Pod has. The node
/// itself has them at its loopback too, of which any address may be named.
pub(super) fn of_container_port(
    pod: &Pod,
    port: &ContainerPort,
    node: &NodeAddresses,
) -> BTreeSet<FrontendKey> {
    let Some(host) = port.host else {
        return BTreeSet::new();
    };
    let families: BTreeSet<Family> = pod
        .addresses
        .iter()
        .map(|address| Family::of((*address).into()))
        .collect();
    let wanted = |address: &&Address| match host.address {
        None => true,
        Some(any) if any.is_unspecified() => any.is_ipv4() == address.is_v4(),
        Some(own) => Address::from(own) == **address,
    };
    let loopback = host.address.filter(std::net::IpAddr::is_loopback);
    let addresses = node.host_ports.iter().chain(&Address::LOOPBACK);
    addresses
        .filter(wanted)
        .copied()
        .chain(loopback.map(Address::from))
        .filter(|address| families.contains(&Family::of(*address)))
        .map(|address| FrontendKey::new(address, Port::new(host.port), port.protocol.number()))
        .collect()
}
