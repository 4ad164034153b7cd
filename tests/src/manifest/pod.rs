//! Pod, with the status that endpoints are made from.

use serde_json::{Value, json};

use super::Port;
use crate::lab::Pod;

/// A Pod of the namespace `default`.
#[derive(Clone, Debug)]
pub struct PodManifest {
    pod: Pod,
    app: String,
    ports: Vec<Port>,
    ready: bool,
}

impl PodManifest {
    /// A running, ready Pod with the label `app` and these container ports.
    #[must_use]
    pub fn new(pod: &Pod, app: &str, ports: &[Port]) -> Self {
        Self {
            pod: pod.clone(),
            app: app.to_owned(),
            ports: ports.to_vec(),
            ready: true,
        }
    }

    /// The condition Ready is False.
    #[must_use]
    pub fn unready(mut self) -> Self {
        self.ready = false;
        self
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let ports: Vec<Value> = self
            .ports
            .iter()
            .map(|port| {
                json!({
                    "name": port.name,
                    "protocol": port.protocol.name(),
                    "containerPort": port.target,
                })
            })
            .collect();
        let ips: Vec<Value> = self
            .pod
            .address()
            .all()
            .map(|ip| json!({"ip": ip}))
            .collect();
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.pod.name(),
                "namespace": "default",
                "labels": {"app": self.app},
            },
            "spec": {
                "nodeName": self.pod.node(),
                "containers": [{"name": "server", "image": "server", "ports": ports}],
            },
            "status": {
                "phase": "Running",
                "podIP": self.pod.address().all().next(),
                "podIPs": ips,
                "conditions": [{"type": "Ready", "status": if self.ready { "True" } else { "False" }}],
            },
        })
    }
}
