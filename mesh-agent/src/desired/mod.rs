//! What the kernel should hold, as a pure function of the whole store.

mod contradiction;
mod endpoints;
mod finding;
mod pods;
mod service;
mod slices;

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{Address, FrontendKey, Port};

use crate::model::{ObjectName, Protocol};

pub use finding::{Finding, Weight};
pub use service::desired_service;

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

/// Identity of a service port: one port of a Service in one family. It owns a service id, a set and its backends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortId {
    /// The Service.
    pub service: ObjectName,
    /// The family of its frontends and backends.
    pub family: Family,
    /// The protocol.
    pub protocol: Protocol,
    /// The port clients ask for.
    pub port: u16,
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
    /// The frontends this port won; those another Service holds are left out.
    pub frontends: BTreeSet<FrontendKey>,
    /// Endpoints that get new connections.
    pub ready: BTreeSet<Target>,
    /// Endpoints that keep the connections they have.
    pub draining: BTreeSet<Target>,
}

/// What the kernel should hold for one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredService {
    /// Its ports.
    pub ports: BTreeMap<PortId, DesiredPort>,
    /// The ClusterIPs it won: ports they do not have are refused.
    pub addresses: BTreeSet<Address>,
}

#[cfg(test)]
mod tests;
