//! Pod, as far as endpoints and host ports are made from it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{ObjectName, Protocol};

/// A Pod and what its status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub name: ObjectName,
    /// metadata.creationTimestamp, seconds since 1970; None counts as youngest. Decides who keeps a host port.
    pub created: Option<i64>,
    /// metadata.labels
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// status.podIPs, or status.podIP.
    pub addresses: Vec<IpAddr>,
    /// status.phase
    pub phase: PodPhase,
    /// The condition Ready.
    pub ready: bool,
    /// metadata.deletionTimestamp is set.
    pub terminating: bool,
    /// spec.nodeName
    pub node: Option<Arc<str>>,
    /// spec.hostNetwork: its ports are the host's without anybody's help.
    pub host_network: bool,
    /// The named and unnamed ports of all containers.
    pub ports: Vec<ContainerPort>,
}

/// status.phase. Succeeded and Failed Pods are done: they are no endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodPhase {
    /// Also when the phase is missing.
    Pending,
    /// At least one container runs.
    Running,
    /// All containers ended well.
    Succeeded,
    /// A container ended badly.
    Failed,
    /// The kubelet cannot be asked.
    Unknown,
}

/// spec.containers[].ports[].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// Empty when unnamed.
    pub name: Arc<str>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// containerPort
    pub port: u16,
    /// hostPort and hostIP.
    pub host: Option<HostPort>,
}

/// Where the node serves a container's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// hostPort
    pub port: u16,
    /// hostIP; None for all of the node's addresses and its loopback, an unspecified one for all of its family.
    pub address: Option<IpAddr>,
}
