//! Service.

use std::net::IpAddr;

use serde_json::{Value, json};

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

impl Protocol {
    /// As a manifest writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// A port of a Service and where its endpoints listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Unique in the Service.
    pub name: String,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// What clients ask for.
    pub port: u16,
    /// What endpoints listen on.
    pub target: u16,
}

impl Port {
    /// A TCP port.
    #[must_use]
    pub fn tcp(name: &str, port: u16, target: u16) -> Self {
        Self {
            name: name.to_owned(),
            protocol: Protocol::Tcp,
            port,
            target,
        }
    }

    /// A UDP port.
    #[must_use]
    pub fn udp(name: &str, port: u16, target: u16) -> Self {
        Self {
            protocol: Protocol::Udp,
            ..Self::tcp(name, port, target)
        }
    }
}

/// A Service of the namespace `default`.
#[derive(Clone, Debug)]
pub struct Service {
    name: String,
    addresses: Vec<IpAddr>,
    ports: Vec<Port>,
    affinity_seconds: Option<u32>,
    selector: Option<String>,
    created: Option<String>,
}

impl Service {
    /// A Service with these ClusterIPs and ports.
    #[must_use]
    pub fn new(name: &str, addresses: &[IpAddr], ports: &[Port]) -> Self {
        Self {
            name: name.to_owned(),
            addresses: addresses.to_vec(),
            ports: ports.to_vec(),
            affinity_seconds: None,
            selector: None,
            created: None,
        }
    }

    /// sessionAffinity ClientIP with this timeout.
    #[must_use]
    pub fn affinity(mut self, seconds: u32) -> Self {
        self.affinity_seconds = Some(seconds);
        self
    }

    /// The selector `app: VALUE`.
    #[must_use]
    pub fn selector(mut self, app: &str) -> Self {
        self.selector = Some(app.to_owned());
        self
    }

    /// metadata.creationTimestamp
    #[must_use]
    pub fn created(mut self, timestamp: &str) -> Self {
        self.created = Some(timestamp.to_owned());
        self
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut spec = json!({"type": "ClusterIP", "ports": self.ports_json()});
        match self.addresses.first() {
            None => spec["clusterIP"] = json!("None"),
            Some(first) => {
                spec["clusterIP"] = json!(first);
                spec["clusterIPs"] = json!(self.addresses);
                let families = self.addresses.iter().map(|address| match address {
                    IpAddr::V4(_) => "IPv4",
                    IpAddr::V6(_) => "IPv6",
                });
                spec["ipFamilies"] = families.collect();
                spec["ipFamilyPolicy"] = match self.addresses.len() {
                    1 => json!("SingleStack"),
                    _ => json!("RequireDualStack"),
                };
            }
        }
        if let Some(seconds) = self.affinity_seconds {
            spec["sessionAffinity"] = json!("ClientIP");
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": seconds}});
        }
        if let Some(app) = &self.selector {
            spec["selector"] = json!({"app": app});
        }
        let mut metadata = json!({"name": self.name, "namespace": "default"});
        if let Some(created) = &self.created {
            metadata["creationTimestamp"] = json!(created);
        }
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    }

    fn ports_json(&self) -> Vec<Value> {
        self.ports
            .iter()
            .map(|port| {
                json!({
                    "name": port.name,
                    "protocol": port.protocol.name(),
                    "port": port.port,
                    "targetPort": port.target,
                })
            })
            .collect()
    }
}
