//! EndpointSlice.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::Port;

/// An endpoint and its conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The first of addresses
    pub address: IpAddr,
    /// conditions.ready
    pub ready: bool,
    /// conditions.serving
    pub serving: bool,
    /// conditions.terminating
    pub terminating: bool,
    /// nodeName
    pub node: Option<String>,
}

impl Endpoint {
    /// Ready, serving, not terminating.
    #[must_use]
    pub fn ready(address: IpAddr) -> Self {
        Self {
            address,
            ready: true,
            serving: true,
            terminating: false,
            node: None,
        }
    }

    fn json(&self) -> Value {
        let mut endpoint = json!({
            "addresses": [self.address],
            "conditions": {
                "ready": self.ready,
                "serving": self.serving,
                "terminating": self.terminating,
            },
        });
        if let Some(node) = &self.node {
            endpoint["nodeName"] = json!(node);
        }
        endpoint
    }
}

/// An EndpointSlice of the namespace `default`.
#[derive(Clone, Debug)]
pub struct Slice {
    name: String,
    service: String,
    ports: Vec<Port>,
    endpoints: Vec<Endpoint>,
}

impl Slice {
    /// A slice of a Service; its endpoints are of one family.
    #[must_use]
    pub fn new(name: &str, service: &str, ports: &[Port], endpoints: &[Endpoint]) -> Self {
        Self {
            name: name.to_owned(),
            service: service.to_owned(),
            ports: ports.to_vec(),
            endpoints: endpoints.to_vec(),
        }
    }

    /// One slice for each family that the endpoints have, as the controllers make them.
    #[must_use]
    pub fn by_family(service: &str, ports: &[Port], endpoints: &[Endpoint]) -> Vec<Self> {
        let (v4, v6): (Vec<Endpoint>, Vec<Endpoint>) = endpoints
            .iter()
            .cloned()
            .partition(|endpoint| endpoint.address.is_ipv4());
        [("v4", v4), ("v6", v6)]
            .into_iter()
            .filter(|(_, endpoints)| !endpoints.is_empty())
            .map(|(family, endpoints)| {
                Self::new(&format!("{service}-{family}"), service, ports, &endpoints)
            })
            .collect()
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let v6 = self
            .endpoints
            .first()
            .is_some_and(|endpoint| endpoint.address.is_ipv6());
        let ports: Vec<Value> = self
            .ports
            .iter()
            .map(|port| {
                json!({"name": port.name, "protocol": port.protocol.name(), "port": port.target})
            })
            .collect();
        let endpoints: Vec<Value> = self.endpoints.iter().map(Endpoint::json).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": self.name,
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": self.service},
            },
            "addressType": if v6 { "IPv6" } else { "IPv4" },
            "ports": ports,
            "endpoints": endpoints,
        })
    }
}
