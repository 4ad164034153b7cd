//! Service, as far as it is served.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{ObjectName, Protocol};

/// A Service that has ClusterIPs. Headless and ExternalName Services are kept too, without addresses, so that they
/// can be listed; nothing is programmed for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: ObjectName,
    /// metadata.creationTimestamp, seconds since 1970; None counts as youngest. Decides who keeps an address.
    pub created: Option<i64>,
    /// As written in spec.type: ClusterIP, NodePort, LoadBalancer or ExternalName.
    pub service_type: ServiceType,
    /// spec.clusterIPs, without None.
    pub cluster_ips: Vec<IpAddr>,
    /// spec.externalIPs, as far as they can be served.
    pub external_ips: Vec<IpAddr>,
    /// status.loadBalancer.ingress[].ip with ipMode VIP, which is the default: those that end at the node.
    pub load_balancer_ips: Vec<IpAddr>,
    /// spec.loadBalancerSourceRanges, as far as they parse; empty is open to all.
    pub source_ranges: BTreeSet<IpNet>,
    /// spec.externalTrafficPolicy
    pub external_policy: TrafficPolicy,
    /// spec.internalTrafficPolicy
    pub internal_policy: TrafficPolicy,
    /// spec.ports; names are unique, and so are pairs of protocol and port.
    pub ports: Vec<ServicePort>,
    /// spec.selector; empty means that endpoints come from EndpointSlices alone.
    pub selector: BTreeMap<Arc<str>, Arc<str>>,
    /// spec.sessionAffinityConfig.clientIP.timeoutSeconds when spec.sessionAffinity is ClientIP.
    pub affinity_seconds: Option<u32>,
    /// spec.publishNotReadyAddresses: Pods count as ready when endpoints are made from them.
    pub publish_not_ready: bool,
    /// spec.trafficDistribution: the hints that endpoints made from Pods are given. Those of EndpointSlices have theirs.
    pub distribution: Option<TrafficDistribution>,
    /// spec.healthCheckNodePort, of a Service that needs one: a load balancer whose external policy is Local.
    pub health_check_port: Option<u16>,
}

/// spec.trafficDistribution. PreferClose is the same as PreferSameZone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrafficDistribution {
    /// Endpoints of the client's zone.
    SameZone,
    /// Endpoints of the client's node, else of its zone.
    SameNode,
}

/// spec.type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceType {
    /// Inside the cluster.
    ClusterIp,
    /// And on each node.
    NodePort,
    /// And from outside.
    LoadBalancer,
    /// A DNS alias: not served.
    ExternalName,
}

impl ServiceType {
    /// As a manifest writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalName => "ExternalName",
        }
    }
}

/// Which endpoints clients of a kind are led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrafficPolicy {
    /// All of the cluster.
    #[default]
    Cluster,
    /// Those of the node.
    Local,
}

impl TrafficPolicy {
    /// As a manifest writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}

/// One of spec.ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty when the manifest gives none.
    pub name: Arc<str>,
    /// TCP or UDP; ports of other protocols are reported and left out.
    pub protocol: Protocol,
    /// What clients ask for.
    pub port: u16,
    /// What Pods listen on; used when endpoints are made from Pods.
    pub target: TargetPort,
    /// nodePort, of Services of type NodePort and LoadBalancer.
    pub node_port: Option<u16>,
}

/// spec.ports[].targetPort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// The same number on each Pod.
    Number(u16),
    /// The container port of this name, Pod by Pod.
    Name(Arc<str>),
}
