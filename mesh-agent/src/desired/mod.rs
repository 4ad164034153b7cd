//! What the kernel should hold, as a pure function of the whole store.

mod endpoints;
mod finding;
mod health;
mod here;
mod host_ports;
mod lost;
mod pods;
mod service;
mod slices;
mod suspects;
mod topology;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use mesh_common::{Address, FrontendKey, Port};

use crate::{
    model::{Kind, ObjectId, Protocol, TrafficPolicy},
    store::Store,
};

pub use endpoints::{Endpoints, Facts, Use};
pub use finding::{Finding, Weight};
pub use health::HealthCheck;
pub use here::Here;
pub use service::endpoints_of;
pub use topology::{Hint, Ignored, Topology, Verdict};

/// An address family. A dual-stack Service has a service port in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub const fn of(address: Address) -> Self {
        if address.is_v4() { Self::V4 } else { Self::V6 }
    }
}

/// Identity of a service port: one port of a Service, or one host port of a Pod, in one family. It owns a service id, a
/// set and its backends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortId {
    /// The Service or Pod.
    pub owner: ObjectId,
    /// The family of its frontends and backends.
    pub family: Family,
    /// The protocol.
    pub protocol: Protocol,
    /// The Service's port; of a Pod the container's.
    pub port: u16,
}

/// Whom a frontend is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Clients of the cluster: a ClusterIP.
    Cluster,
    /// Clients from anywhere.
    External,
    /// Clients in the port's ranges.
    Ranges,
    /// Clients in the host's own network namespace: a loopback address.
    Host,
}

/// Clients of a load balancer's address: those whose first so many bits are the same, of 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceRange {
    /// The first of them.
    pub address: Address,
    /// Bits that count.
    pub bits: u32,
}

impl From<IpNet> for SourceRange {
    fn from(range: IpNet) -> Self {
        let before = if range.addr().is_ipv4() { 96 } else { 0 };
        Self {
            address: range.network().into(),
            bits: before + u32::from(range.prefix_len()),
        }
    }
}

/// Where connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The endpoint's address.
    pub address: Address,
    /// The endpoint's port.
    pub port: Port,
}

/// What the kernel should hold for one service port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredPort {
    /// Session affinity; 0 for none.
    pub affinity_seconds: u32,
    /// The frontends this port won; those another holds are left out.
    pub frontends: BTreeMap<FrontendKey, Access>,
    /// Whom the frontends with ranges are open to.
    pub ranges: BTreeSet<SourceRange>,
    /// Whom clients at ClusterIPs are led to.
    pub internal: TrafficPolicy,
    /// Whom clients outside are led to by the other addresses.
    pub external: TrafficPolicy,
    /// Endpoints that get new connections by the policy Cluster.
    pub ready: BTreeSet<Target>,
    /// Endpoints that get new connections by the policy Local; None if none is.
    pub local: Option<BTreeSet<Target>>,
    /// Endpoints that keep the connections they have.
    pub draining: BTreeSet<Target>,
}

/// What the kernel should hold for one Service, or for one Pod's host ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Its ports.
    pub ports: BTreeMap<PortId, DesiredPort>,
    /// The ClusterIPs it won: ports they do not have are refused.
    pub addresses: BTreeSet<Address>,
    /// What its load balancer is told; not for the kernel.
    pub health: Option<HealthCheck>,
}

/// What the kernel should hold for an object, and what people should know of it. Nothing for one that does not exist or is
/// not served.
#[must_use]
pub fn desired(store: &Store, owner: &ObjectId) -> (Desired, Vec<Finding>) {
    match owner.kind {
        Kind::Service => service::desired_service(store, &owner.name),
        Kind::Pod => host_ports::desired_pod(store, &owner.name),
        Kind::EndpointSlice | Kind::Namespace | Kind::Node => (Desired::default(), Vec::new()),
    }
}

#[cfg(test)]
mod tests;
