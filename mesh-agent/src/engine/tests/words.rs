//! The small language of scenarios and tests: one object or event a line.
//!
//!     service NS/NAME ip=A.. port=NAME/PROTOCOL/PORT[/TARGET][@NODEPORT].. created=N affinity=N select=K:V.. publish
//!         external eip=A.. lb=A.. range=CIDR..          (eip: external IPs; lb: load balancer's; external: ExternalName)
//!         itp=local etp=local near=zone|node            (internal and external traffic policy, traffic distribution)
//!     slice NS/NAME of=SERVICE port=NAME/PROTOCOL/PORT..
//!         at=A[,unready|,terminating|,finished][,on:NODE][,forzone:ZONE..][,fornode:NODE..]..
//!     pod NS/NAME ip=A.. label=K:V.. port=NAME/PROTOCOL/PORT[@HOSTPORT[@HOSTIP]].. phase=PHASE unready terminating
//!         node=NAME created=N hostnetwork               (this node is `one`)
//!     node NAME ip=A.. zone=ZONE                        (internal addresses)
//!     addresses A..                                     (those of this node's devices)
//!     remove KIND NS/NAME

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{
    Change, ContainerPort, Endpoint, EndpointSlice, HostPort, Kind, Node, Object, ObjectId,
    ObjectName, Pod, PodPhase, Protocol, Service, ServicePort, ServiceType, SlicePort, TargetPort,
    TrafficDistribution, TrafficPolicy,
};

struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn all(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter_map(move |word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }

    fn pairs(&self, key: &str) -> BTreeMap<Arc<str>, Arc<str>> {
        self.all(key)
            .map(|pair| pair.split_once(':').unwrap())
            .map(|(key, value)| (key.into(), value.into()))
            .collect()
    }
}

pub(crate) fn change(line: &str) -> Change {
    let words: Vec<&str> = line.split_whitespace().collect();
    if words[0] == "addresses" {
        let addresses = words[1..].iter().map(|word| word.parse().unwrap());
        return Change::NodeAddresses(addresses.collect());
    }
    let rest = Words(words[2..].to_vec());
    match words[0] {
        "service" => Change::Put(Object::Service(service(name(words[1]), &rest))),
        "slice" => Change::Put(Object::EndpointSlice(slice(name(words[1]), &rest))),
        "pod" => Change::Put(Object::Pod(pod(name(words[1]), &rest))),
        "node" => Change::Put(Object::Node(node(words[1], &rest))),
        "remove" => Change::Remove(ObjectId {
            kind: match words[1] {
                "service" => Kind::Service,
                "slice" => Kind::EndpointSlice,
                "pod" => Kind::Pod,
                other => panic!("no kind {other}"),
            },
            name: name(words[2]),
        }),
        other => panic!("no word {other}"),
    }
}

pub(crate) fn name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectName::new(namespace, name)
}

fn protocol(text: &str) -> Protocol {
    match text {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        other => panic!("no protocol {other}"),
    }
}

fn service(name: ObjectName, words: &Words<'_>) -> Service {
    let port = |text: &str| {
        let (text, node_port) = match text.split_once('@') {
            Some((text, number)) => (text, Some(number.parse().unwrap())),
            None => (text, None),
        };
        let parts: Vec<&str> = text.split('/').collect();
        let target = parts.get(3).unwrap_or(&parts[2]);
        ServicePort {
            name: parts[0].into(),
            protocol: protocol(parts[1]),
            port: parts[2].parse().unwrap(),
            target: match target.parse() {
                Ok(number) => TargetPort::Number(number),
                Err(_) => TargetPort::Name((*target).into()),
            },
            node_port,
        }
    };
    let policy = |key| match words.all(key).next() {
        None => TrafficPolicy::Cluster,
        Some("local") => TrafficPolicy::Local,
        Some(other) => panic!("no policy {other}"),
    };
    Service {
        name,
        created: words.all("created").next().map(|n| n.parse().unwrap()),
        service_type: if words.has("external") {
            ServiceType::ExternalName
        } else {
            ServiceType::ClusterIp
        },
        cluster_ips: words.all("ip").map(|ip| ip.parse().unwrap()).collect(),
        external_ips: words.all("eip").map(|ip| ip.parse().unwrap()).collect(),
        load_balancer_ips: words.all("lb").map(|ip| ip.parse().unwrap()).collect(),
        source_ranges: words.all("range").map(|it| it.parse().unwrap()).collect(),
        external_policy: policy("etp"),
        internal_policy: policy("itp"),
        ports: words.all("port").map(port).collect(),
        selector: words.pairs("select"),
        affinity_seconds: words.all("affinity").next().map(|n| n.parse().unwrap()),
        publish_not_ready: words.has("publish"),
        distribution: words.all("near").next().map(|near| match near {
            "zone" => TrafficDistribution::SameZone,
            "node" => TrafficDistribution::SameNode,
            other => panic!("no distribution {other}"),
        }),
        health_check_port: None,
    }
}

fn slice(name: ObjectName, words: &Words<'_>) -> EndpointSlice {
    let port = |text: &str| {
        let parts: Vec<&str> = text.split('/').collect();
        SlicePort {
            name: parts[0].into(),
            protocol: protocol(parts[1]),
            port: parts[2].parse().unwrap(),
        }
    };
    let endpoint = |text: &str| {
        let mut parts = text.split(',');
        let mut endpoint = Endpoint {
            address: parts.next().unwrap().parse().unwrap(),
            pod: None,
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            hints: None,
        };
        for part in parts {
            describe(&mut endpoint, part);
        }
        endpoint
    };
    EndpointSlice {
        name,
        service: words.all("of").next().map(Into::into),
        ports: words.all("port").map(port).collect(),
        endpoints: words.all("at").map(endpoint).collect(),
        triggered: None,
    }
}

fn describe(endpoint: &mut Endpoint, part: &str) {
    let mut state = |ready, serving, terminating| {
        endpoint.ready = ready;
        endpoint.serving = serving;
        endpoint.terminating = terminating;
    };
    match part.split_once(':') {
        None => match part {
            "" => {}
            "unready" => state(false, false, false),
            "terminating" => state(false, true, true),
            "finished" => state(false, false, true),
            other => panic!("no state {other}"),
        },
        Some(("on", node)) => endpoint.node = Some(node.into()),
        Some(("forzone", zone)) => {
            let hints = endpoint.hints.get_or_insert_default();
            hints.zones.push(zone.into());
        }
        Some(("fornode", node)) => {
            let hints = endpoint.hints.get_or_insert_default();
            hints.nodes.push(node.into());
        }
        Some((other, _)) => panic!("no word {other}"),
    }
}

fn node(name: &str, words: &Words<'_>) -> Node {
    Node {
        name: ObjectName::new("", name),
        addresses: Vec::new(),
        internal: words.all("ip").map(|ip| ip.parse().unwrap()).collect(),
        leaving: false,
        zone: words.all("zone").next().map(Into::into),
    }
}

fn pod(name: ObjectName, words: &Words<'_>) -> Pod {
    let port = |text: &str| {
        let mut at = text.split('@');
        let parts: Vec<&str> = at.next().unwrap().split('/').collect();
        ContainerPort {
            name: parts[0].into(),
            protocol: protocol(parts[1]),
            port: parts[2].parse().unwrap(),
            host: at.next().map(|number| HostPort {
                port: number.parse().unwrap(),
                address: at.next().map(|ip| ip.parse().unwrap()),
            }),
        }
    };
    Pod {
        name,
        created: words.all("created").next().map(|n| n.parse().unwrap()),
        labels: words.pairs("label"),
        addresses: words.all("ip").map(|ip| ip.parse().unwrap()).collect(),
        phase: match words.all("phase").next() {
            None | Some("Running") => PodPhase::Running,
            Some("Pending") => PodPhase::Pending,
            Some("Succeeded") => PodPhase::Succeeded,
            Some("Failed") => PodPhase::Failed,
            Some(other) => panic!("no phase {other}"),
        },
        ready: !words.has("unready"),
        terminating: words.has("terminating"),
        node: words.all("node").next().map(Into::into),
        host_network: words.has("hostnetwork"),
        ports: words.all("port").map(port).collect(),
    }
}
