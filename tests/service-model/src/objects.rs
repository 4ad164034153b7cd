//! The objects, as plain as the API has them. An unset field is None.

use std::net::IpAddr;

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Nodes
    pub nodes: Vec<Node>,
    /// Services, all of one namespace.
    pub services: Vec<Service>,
    /// EndpointSlices
    pub slices: Vec<Slice>,
    /// Pods that Services select.
    pub pods: Vec<Pod>,
}

/// A Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// The label topology.kubernetes.io/zone
    pub zone: Option<String>,
    /// status.addresses
    pub addresses: Vec<IpAddr>,
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// spec.type
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ClusterIP`
    ClusterIp,
    /// `NodePort`
    NodePort,
    /// `LoadBalancer`
    LoadBalancer,
    /// `ExternalName`
    ExternalName,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// metadata.creationTimestamp: seconds of one minute.
    pub created: u32,
    /// The label service.kubernetes.io/service-proxy-name
    pub proxy: Option<String>,
    /// spec.type
    pub kind: Kind,
    /// spec.clusterIPs; empty is headless.
    pub cluster_ips: Vec<IpAddr>,
    /// spec.ports
    pub ports: Vec<Port>,
    /// spec.internalTrafficPolicy is Local.
    pub internal_local: bool,
    /// spec.externalTrafficPolicy is Local.
    pub external_local: bool,
    /// spec.externalIPs
    pub external_ips: Vec<IpAddr>,
    /// status.loadBalancer.ingress
    pub ingress: Vec<Ingress>,
    /// spec.loadBalancerSourceRanges
    pub source_ranges: Vec<Range>,
    /// spec.allocateLoadBalancerNodePorts is false.
    pub without_node_ports: bool,
    /// spec.sessionAffinity is ClientIP, with this timeout.
    pub affinity_seconds: Option<u32>,
    /// spec.healthCheckNodePort
    pub health_check_port: Option<u16>,
    /// spec.publishNotReadyAddresses
    pub publish_not_ready: bool,
    /// spec.trafficDistribution
    pub distribution: Option<String>,
    /// spec.selector, as the value of the label `app`.
    pub selector: Option<String>,
}

/// One of spec.ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Empty where the Service has only one and gives no name.
    pub name: String,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// What clients ask for.
    pub port: u16,
    /// Where Pods listen.
    pub target: TargetPort,
    /// nodePort
    pub node_port: Option<u16>,
}

/// spec.ports[].targetPort
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// The same on each Pod.
    Number(u16),
    /// What each Pod's containers call so.
    Name(String),
}

/// One of status.loadBalancer.ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Its address.
    pub ip: IpAddr,
    /// ipMode is Proxy: the load balancer ends what comes to it.
    pub is_proxy: bool,
}

/// One of spec.loadBalancerSourceRanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// An address in it.
    pub address: IpAddr,
    /// How many leading bits count.
    pub bits: u8,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its name.
    pub name: String,
    /// The label kubernetes.io/service-name
    pub service: String,
    /// addressType is IPv4.
    pub is_v4: bool,
    /// ports
    pub ports: Vec<SlicePort>,
    /// endpoints
    pub endpoints: Vec<Endpoint>,
}

/// One of a slice's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The Service port's name.
    pub name: String,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
}

/// conditions
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// ready
    pub ready: Option<bool>,
    /// serving
    pub serving: Option<bool>,
    /// terminating
    pub terminating: Option<bool>,
}

/// One of a slice's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `addresses[0]`
    pub address: IpAddr,
    /// conditions
    pub conditions: Conditions,
    /// nodeName
    pub node: Option<String>,
    /// hints.forZones
    pub for_zones: Vec<String>,
    /// hints.forNodes
    pub for_nodes: Vec<String>,
}

/// A Pod, as far as endpoints are made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// The label `app`.
    pub app: String,
    /// spec.nodeName
    pub node: String,
    /// status.podIPs
    pub addresses: Vec<IpAddr>,
    /// The condition Ready is True.
    pub is_ready: bool,
    /// metadata.deletionTimestamp is set.
    pub is_terminating: bool,
    /// status.phase is Succeeded.
    pub is_finished: bool,
    /// The containers' ports.
    pub ports: Vec<PodPort>,
}

/// One of a container's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// Its name.
    pub name: String,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
}
