//! Who may answer. A Service's address leads to its endpoints; which ones is `endpoints.rs`.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use crate::{Client, Kind, Port, Question, Range, Service, Way, World};

/// Why nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No endpoint of the port may get connections.
    NoEndpoints,
    /// There are some, but the traffic policy is Local and none is on the node. The API reference says that such traffic is
    /// dropped; to be refused is to be told so.
    NoLocalEndpoints,
    /// The address is a ClusterIP, and no Service has that port of it.
    NoSuchPort,
}

/// What becomes of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The destination is no Service's: it goes where it would go without any.
    Passes,
    /// One of these answers. The same for the same client while it asks on, if the affinity is for ClientIP.
    Backends {
        /// Each of them at some time.
        of: BTreeSet<SocketAddr>,
        /// sessionAffinity is ClientIP.
        sticky: bool,
    },
    /// The client is told that nobody answers.
    Refused(Why),
    /// Silence: the client is not in the Service's source ranges.
    Dropped,
}

/// By which of its addresses a Service is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposure {
    Cluster,
    External,
    LoadBalancer,
}

impl World {
    /// What becomes of a question.
    #[must_use]
    pub fn answer(&self, question: &Question) -> Answer {
        let Some((service, port, exposure)) = self.asked(question) else {
            return self.unserved(question);
        };
        if exposure == Exposure::LoadBalancer && !admits(&service.source_ranges, question.client) {
            return Answer::Dropped;
        }
        let is_local = match exposure {
            Exposure::Cluster => service.internal_local,
            // From within the cluster an external address has the semantics Cluster.
            Exposure::External | Exposure::LoadBalancer => {
                service.external_local && question.client.way == Way::Outside
            }
        };
        let endpoints = self.endpoints(service, port, question.to.is_ipv4(), &question.node);
        let of = endpoints.usable(is_local);
        if !of.is_empty() {
            let sticky = service.affinity_seconds.is_some();
            return Answer::Backends { of, sticky };
        }
        let elsewhere = is_local && !endpoints.usable(false).is_empty();
        Answer::Refused(if elsewhere {
            Why::NoLocalEndpoints
        } else {
            Why::NoEndpoints
        })
    }

    /// The Service that is asked: of several the oldest, and of those the first by name.
    pub(crate) fn asked(&self, question: &Question) -> Option<(&Service, &Port, Exposure)> {
        let mut found = Vec::new();
        for service in self.services.iter().filter(|it| is_served(it)) {
            for port in &service.ports {
                if let Some(exposure) = self.exposure(service, port, question) {
                    found.push((service, port, exposure));
                }
            }
        }
        found
            .into_iter()
            .min_by_key(|(service, _, _)| (service.created, service.name.clone()))
    }

    fn exposure(&self, service: &Service, port: &Port, asked: &Question) -> Option<Exposure> {
        let has_family = |ip: &&IpAddr| ip.is_ipv4() == asked.to.is_ipv4();
        if port.protocol != asked.protocol || !service.cluster_ips.iter().any(|ip| has_family(&ip))
        {
            return None;
        }
        if self.node_port(service, port) == Some(asked.port) && self.is_of_node(asked) {
            return Some(Exposure::External);
        }
        if port.port != asked.port {
            return None;
        }
        let mut ingress = service.ingress.iter();
        let balanced = ingress.any(|it| it.ip == asked.to && !it.is_proxy);
        if service.cluster_ips.contains(&asked.to) {
            Some(Exposure::Cluster)
        } else if balanced && service.kind == Kind::LoadBalancer {
            Some(Exposure::LoadBalancer)
        } else if service.external_ips.contains(&asked.to) {
            Some(Exposure::External)
        } else {
            None
        }
    }

    fn node_port(&self, service: &Service, port: &Port) -> Option<u16> {
        match service.kind {
            Kind::NodePort | Kind::LoadBalancer => port.node_port,
            Kind::ClusterIp | Kind::ExternalName => None,
        }
    }

    fn is_of_node(&self, asked: &Question) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|node| node.name == asked.node && node.addresses.contains(&asked.to))
    }

    /// A ClusterIP is nobody else's: what it does not serve is refused.
    fn unserved(&self, asked: &Question) -> Answer {
        let mut served = self.services.iter().filter(|it| is_served(it));
        if served.any(|service| service.cluster_ips.contains(&asked.to)) {
            return Answer::Refused(Why::NoSuchPort);
        }
        Answer::Passes
    }
}

/// Not a name for something else, not headless, and not another proxy's.
fn is_served(service: &Service) -> bool {
    service.kind != Kind::ExternalName && service.proxy.is_none() && !service.cluster_ips.is_empty()
}

/// Ranges say nothing of a family of which there is none.
fn admits(ranges: &[Range], client: Client) -> bool {
    let of_family = ranges
        .iter()
        .filter(|range| range.address.is_ipv4() == client.address.is_ipv4());
    let of_family: Vec<_> = of_family.collect();
    of_family.is_empty() || of_family.iter().any(|range| covers(range, client.address))
}

fn covers(range: &Range, address: IpAddr) -> bool {
    let (own, asked) = (bits(range.address), bits(address));
    own.len() == asked.len()
        && own
            .iter()
            .zip(&asked)
            .take(range.bits.into())
            .all(|(a, b)| a == b)
}

/// An address bit by bit, the first one first.
fn bits(address: IpAddr) -> Vec<bool> {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let of_octet = |octet: u8| (0..8).map(move |bit| octet & (0x80 >> bit) != 0);
    octets.into_iter().flat_map(of_octet).collect()
}
