//! Random questions about a world.

use std::net::IpAddr;

use super::{Ground, PORTS};
use crate::{Client, Protocol, Question, Random, Way, World};

impl Ground {
    /// A question about one of the world's Services, as a rule; sometimes about what none has.
    #[must_use]
    pub fn question(&self, random: &mut Random, world: &World, node: &str) -> Option<Question> {
        let own = self.nodes.iter().find(|it| it.name == node)?;
        let service = random.pick(&world.services)?;
        let port = random.pick(&service.ports)?;
        let ingress = service.ingress.iter().map(|it| it.ip);
        let mut asked: Vec<(IpAddr, u16)> = service
            .cluster_ips
            .iter()
            .copied()
            .chain(service.external_ips.iter().copied())
            .chain(ingress)
            .map(|ip| (ip, port.port))
            .collect();
        if let Some(number) = port.node_port {
            let addresses = own.addresses.iter();
            asked.extend(addresses.map(|ip| (*ip, number)));
        }
        let (to, mut number) = *random.pick(&asked)?;
        let mut protocol = port.protocol;
        if random.one_in(12) {
            number = *random.pick(&PORTS)?;
        }
        if random.one_in(16) {
            protocol = if protocol == Protocol::Tcp {
                Protocol::Udp
            } else {
                Protocol::Tcp
            };
        }
        let ways = [Way::Host, Way::Pod, Way::Outside, Way::Outside];
        let way = *random.pick(&ways)?;
        let of_family = |ip: &&IpAddr| ip.is_ipv4() == to.is_ipv4();
        let address = match way {
            Way::Host => *own.addresses.iter().find(of_family)?,
            Way::Pod => {
                let places = self.places.iter().filter(|it| it.node == node);
                random
                    .pick(&places.collect::<Vec<_>>())?
                    .address(to.is_ipv4())
            }
            Way::Outside => {
                **random.pick(&self.outside.iter().filter(of_family).collect::<Vec<_>>())?
            }
        };
        let client = Client { way, address };
        Some(Question {
            node: node.to_owned(),
            client,
            to,
            port: number,
            protocol,
        })
    }
}
