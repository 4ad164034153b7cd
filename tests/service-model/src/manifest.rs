//! The objects as the API has them.

use serde_json::{Value, json};

use crate::{Endpoint, Kind, Node, Pod, Port, Protocol, Service, Slice, TargetPort, World};

impl World {
    /// Every object as a manifest: Nodes, Services, EndpointSlices, Pods.
    #[must_use]
    pub fn manifests(&self) -> Vec<Value> {
        let nodes = self.nodes.iter().map(Node::json);
        let services = self.services.iter().map(Service::json);
        let slices = self.slices.iter().map(Slice::json);
        let pods = self.pods.iter().map(Pod::json);
        nodes.chain(services).chain(slices).chain(pods).collect()
    }
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

impl Node {
    /// As a manifest.
    #[must_use]
    pub fn json(&self) -> Value {
        let addresses = self.addresses.iter();
        let addresses: Vec<Value> = addresses
            .map(|ip| json!({"type": "InternalIP", "address": ip}))
            .collect();
        let mut node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.name, "labels": {}},
            "status": {"addresses": addresses},
        });
        if let Some(zone) = &self.zone {
            node["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!(zone);
        }
        node
    }
}

impl Service {
    /// As a manifest.
    #[must_use]
    pub fn json(&self) -> Value {
        let kind = match self.kind {
            Kind::ClusterIp => "ClusterIP",
            Kind::NodePort => "NodePort",
            Kind::LoadBalancer => "LoadBalancer",
            Kind::ExternalName => "ExternalName",
        };
        let ports: Vec<Value> = self.ports.iter().map(Port::json).collect();
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": self.name, "namespace": "default", "labels": {},
                "creationTimestamp": format!("2026-01-01T00:00:{:02}Z", self.created),
            },
            "spec": {"type": kind, "ports": ports},
        });
        if let Some(proxy) = &self.proxy {
            let labels = &mut service["metadata"]["labels"];
            labels["service.kubernetes.io/service-proxy-name"] = json!(proxy);
        }
        let spec = &mut service["spec"];
        self.write_addresses(spec);
        self.write_policies(spec);
        if !self.ingress.is_empty() {
            let mode = |is_proxy| if is_proxy { "Proxy" } else { "VIP" };
            let ingress = self.ingress.iter();
            let ingress: Vec<Value> = ingress
                .map(|it| json!({"ip": it.ip, "ipMode": mode(it.is_proxy)}))
                .collect();
            service["status"] = json!({"loadBalancer": {"ingress": ingress}});
        }
        service
    }

    fn write_addresses(&self, spec: &mut Value) {
        if self.kind == Kind::ExternalName {
            spec["externalName"] = json!("elsewhere.example.com");
            return;
        }
        if let Some(first) = self.cluster_ips.first() {
            let family = |ip: &std::net::IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            let families: Vec<&str> = self.cluster_ips.iter().map(family).collect();
            spec["clusterIP"] = json!(first);
            spec["clusterIPs"] = json!(self.cluster_ips);
            spec["ipFamilies"] = json!(families);
            let policies = ["SingleStack", "RequireDualStack"];
            spec["ipFamilyPolicy"] = json!(policies[usize::from(families.len() > 1)]);
        } else {
            spec["clusterIP"] = json!("None");
        }
        if !self.external_ips.is_empty() {
            spec["externalIPs"] = json!(self.external_ips);
        }
    }

    fn write_policies(&self, spec: &mut Value) {
        let policy = |is_local| json!(if is_local { "Local" } else { "Cluster" });
        if self.kind != Kind::ExternalName {
            spec["internalTrafficPolicy"] = policy(self.internal_local);
        }
        if matches!(self.kind, Kind::NodePort | Kind::LoadBalancer) {
            spec["externalTrafficPolicy"] = policy(self.external_local);
        }
        if self.without_node_ports {
            spec["allocateLoadBalancerNodePorts"] = json!(false);
        }
        if !self.source_ranges.is_empty() {
            let ranges = self.source_ranges.iter();
            let ranges = ranges.map(|it| json!(format!("{}/{}", it.address, it.bits)));
            spec["loadBalancerSourceRanges"] = ranges.collect();
        }
        if let Some(seconds) = self.affinity_seconds {
            spec["sessionAffinity"] = json!("ClientIP");
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": seconds}});
        }
        if let Some(number) = self.health_check_port {
            spec["healthCheckNodePort"] = json!(number);
        }
        if self.publish_not_ready {
            spec["publishNotReadyAddresses"] = json!(true);
        }
        if let Some(distribution) = &self.distribution {
            spec["trafficDistribution"] = json!(distribution);
        }
        if let Some(app) = &self.selector {
            spec["selector"] = json!({"app": app});
        }
    }
}

impl Port {
    fn json(&self) -> Value {
        let target = match &self.target {
            TargetPort::Number(number) => json!(number),
            TargetPort::Name(name) => json!(name),
        };
        let mut port = json!({
            "protocol": self.protocol.name(), "port": self.port, "targetPort": target,
        });
        if !self.name.is_empty() {
            port["name"] = json!(self.name);
        }
        if let Some(number) = self.node_port {
            port["nodePort"] = json!(number);
        }
        port
    }
}

impl Slice {
    /// As a manifest.
    #[must_use]
    pub fn json(&self) -> Value {
        let ports = self.ports.iter();
        let ports: Vec<Value> = ports
            .map(|it| json!({"name": it.name, "protocol": it.protocol.name(), "port": it.port}))
            .collect();
        let endpoints: Vec<Value> = self.endpoints.iter().map(Endpoint::json).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": self.name, "namespace": "default",
                "labels": {"kubernetes.io/service-name": self.service},
            },
            "addressType": if self.is_v4 { "IPv4" } else { "IPv6" },
            "ports": ports, "endpoints": endpoints,
        })
    }
}

impl Endpoint {
    fn json(&self) -> Value {
        let mut conditions = json!({});
        for (name, value) in [
            ("ready", self.conditions.ready),
            ("serving", self.conditions.serving),
            ("terminating", self.conditions.terminating),
        ] {
            if let Some(value) = value {
                conditions[name] = json!(value);
            }
        }
        let mut endpoint = json!({"addresses": [self.address], "conditions": conditions});
        if let Some(node) = &self.node {
            endpoint["nodeName"] = json!(node);
        }
        for (field, names) in [("forZones", &self.for_zones), ("forNodes", &self.for_nodes)] {
            if !names.is_empty() {
                let names: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
                endpoint["hints"][field] = json!(names);
            }
        }
        endpoint
    }
}

impl Pod {
    /// As a manifest.
    #[must_use]
    pub fn json(&self) -> Value {
        let ports = self.ports.iter();
        let ports: Vec<Value> = ports
            .map(|it| json!({"name": it.name, "protocol": it.protocol.name(), "containerPort": it.port}))
            .collect();
        let ips: Vec<Value> = self.addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let ready = if self.is_ready { "True" } else { "False" };
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "namespace": "default", "labels": {"app": self.app}},
            "spec": {
                "nodeName": self.node,
                "containers": [{"name": "server", "image": "server", "ports": ports}],
            },
            "status": {
                "phase": if self.is_finished { "Succeeded" } else { "Running" },
                "podIP": self.addresses.first(), "podIPs": ips,
                "conditions": [{"type": "Ready", "status": ready}],
            },
        });
        if self.is_terminating {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
        }
        pod
    }
}
