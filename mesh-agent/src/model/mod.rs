//! The objects the agent works from, free of Kubernetes' types: only the fields that are used, checked once where
//! they come in. Everything after `source` speaks of these.

use std::{collections::BTreeSet, net::IpAddr};

mod endpoint_slice;
mod name;
mod node;
mod node_ports;
mod pod;
mod service;

pub use endpoint_slice::{Endpoint, EndpointSlice, Hints, SlicePort};
pub use name::ObjectName;
pub use node::Node;
pub use node_ports::NodePortAddresses;
pub use pod::{ContainerPort, HostPort, Pod, PodPhase};
pub use service::{
    Service, ServicePort, ServiceType, TargetPort, TrafficDistribution, TrafficPolicy,
};

pub use mesh_common::Protocol;

/// The kinds the agent reads. The order is that of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// discovery.k8s.io/v1
    EndpointSlice,
    /// v1
    Namespace,
    /// v1
    Node,
    /// v1
    Pod,
    /// v1
    Service,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::EndpointSlice,
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Service,
    ];

    /// As a manifest writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EndpointSlice => "EndpointSlice",
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// An object's identity across kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// What it is.
    pub kind: Kind,
    /// Its name; cluster-wide kinds have an empty namespace.
    pub name: ObjectName,
}

impl ObjectId {
    /// Of a Service.
    #[must_use]
    pub fn service(name: &ObjectName) -> Self {
        Self {
            kind: Kind::Service,
            name: name.clone(),
        }
    }

    /// Of a Pod.
    #[must_use]
    pub fn pod(name: &ObjectName) -> Self {
        Self {
            kind: Kind::Pod,
            name: name.clone(),
        }
    }
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// One object of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// See the type.
    EndpointSlice(EndpointSlice),
    /// A namespace has nothing but its name that is used.
    Namespace(ObjectName),
    /// See the type.
    Node(Node),
    /// See the type.
    Pod(Pod),
    /// See the type.
    Service(Service),
}

impl Object {
    /// Its identity.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        let (kind, name) = match self {
            Self::EndpointSlice(slice) => (Kind::EndpointSlice, &slice.name),
            Self::Namespace(name) => (Kind::Namespace, name),
            Self::Node(node) => (Kind::Node, &node.name),
            Self::Pod(pod) => (Kind::Pod, &pod.name),
            Self::Service(service) => (Kind::Service, &service.name),
        };
        ObjectId {
            kind,
            name: name.clone(),
        }
    }
}

/// What a source tells the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The object is there, new or changed.
    Put(Object),
    /// The object is gone.
    Remove(ObjectId),
    /// Every object of this kind has been delivered once.
    Synced(Kind),
    /// Whether there is something that could not be read since the source began, so that it has no last good version:
    /// what an earlier run left may come of it.
    Incomplete(bool),
    /// The node's addresses: all that its devices have now.
    NodeAddresses(BTreeSet<IpAddr>),
}
