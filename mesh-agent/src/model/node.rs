//! Node, as far as it is used.

use std::{net::IpAddr, sync::Arc};

use super::ObjectName;

/// A node and its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, without namespace.
    pub name: ObjectName,
    /// status.addresses of type InternalIP and ExternalIP.
    pub addresses: Vec<IpAddr>,
    /// Those of type InternalIP.
    pub internal: Vec<IpAddr>,
    /// It is being deleted, or the cluster's autoscaler is about to: the node's load balancers should leave it out.
    pub leaving: bool,
    /// The label topology.kubernetes.io/zone.
    pub zone: Option<Arc<str>>,
}
