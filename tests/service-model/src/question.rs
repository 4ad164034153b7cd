//! Who asks, from where, for what.

use std::net::IpAddr;

use crate::{Protocol, Service, World};

/// A client, as the node that decides sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A process of the node.
    Host,
    /// A Pod on the node.
    Pod,
    /// Anybody whose packets come to the node from elsewhere.
    Outside,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// From where.
    pub way: Way,
    /// Its own address, of the question's family.
    pub address: IpAddr,
}

/// A new connection, or a datagram of a new socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The node that decides.
    pub node: String,
    /// Who asks.
    pub client: Client,
    /// The address that is asked for.
    pub to: IpAddr,
    /// The port.
    pub port: u16,
    /// Over what.
    pub protocol: Protocol,
}

impl World {
    /// The objects that a question is about, for whoever looks for the reason of an answer.
    #[must_use]
    pub fn about(&self, question: &Question) -> String {
        let has = |service: &&Service| {
            let ingress = service.ingress.iter().map(|it| it.ip);
            let mut ips = service
                .cluster_ips
                .iter()
                .chain(&service.external_ips)
                .copied()
                .chain(ingress);
            let mut ports = service.ports.iter();
            ips.any(|ip| ip == question.to) || ports.any(|it| it.node_port == Some(question.port))
        };
        let mut lines: Vec<String> = self.nodes.iter().map(|it| it.json().to_string()).collect();
        for service in self.services.iter().filter(has) {
            lines.push(service.json().to_string());
            let slices = self.slices.iter().filter(|it| it.service == service.name);
            lines.extend(slices.map(|it| it.json().to_string()));
            let pods = self
                .pods
                .iter()
                .filter(|it| Some(&it.app) == service.selector.as_ref());
            lines.extend(pods.map(|it| it.json().to_string()));
        }
        lines.join("\n")
    }
}
