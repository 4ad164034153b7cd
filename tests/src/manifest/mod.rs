//! Manifests as `kubectl get -o json` prints them, as far as the agent reads them.

mod pod;
mod service;
mod slice;
mod source;

use serde_json::{Value, json};

pub use pod::PodManifest;
pub use service::{Port, Protocol, Service};
pub use slice::{Endpoint, Slice};
pub use source::Source;

use crate::lab::Node;

/// A Node with its addresses.
#[must_use]
pub fn node(node: &Node) -> Value {
    let addresses: Vec<Value> = node
        .address()
        .all()
        .map(|address| json!({"type": "InternalIP", "address": address}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name()},
        "status": {"addresses": addresses},
    })
}
