//! EndpointSlice: where a Service's Pods are.

use std::{net::IpAddr, num::NonZeroU64, sync::Arc, time::SystemTime};

use super::{ObjectName, Protocol};

/// A slice of one Service's endpoints, all of one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub name: ObjectName,
    /// The label kubernetes.io/service-name, a Service of the same namespace; None belongs to nobody.
    pub service: Option<Arc<str>>,
    /// Ports by name, the same for each endpoint.
    pub ports: Vec<SlicePort>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// When the change happened that this version comes from, as the annotation
    /// endpoints.kubernetes.io/last-change-trigger-time says; it changes nothing but a metric.
    pub triggered: Option<SystemTime>,
}

impl EndpointSlice {
    /// The family of its addresses, as far as it has any.
    #[must_use]
    pub fn is_v6(&self) -> bool {
        self.endpoints
            .first()
            .is_some_and(|endpoint| endpoint.address.is_ipv6())
    }
}

/// A port of each endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the Service's port that it serves; empty for the unnamed.
    pub name: Arc<str>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port that the endpoint listens on.
    pub port: u16,
}

/// One endpoint. Unset conditions have been given the meaning the API documents: ready, serving and not terminating
/// unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `addresses[0]`: Kubernetes defines no meaning for more.
    pub address: IpAddr,
    /// A number of targetRef.uid: two Pods that had one address after the other have different ones.
    pub pod: Option<NonZeroU64>,
    /// conditions.ready
    pub ready: bool,
    /// conditions.serving
    pub serving: bool,
    /// conditions.terminating
    pub terminating: bool,
    /// nodeName
    pub node: Option<Arc<str>>,
    /// hints; None if there are none, as in most clusters.
    pub hints: Option<Box<Hints>>,
}

/// Whom an endpoint is meant for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// forZones
    pub zones: Vec<Arc<str>>,
    /// forNodes
    pub nodes: Vec<Arc<str>>,
}
