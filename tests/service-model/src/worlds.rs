//! Random worlds on given ground: nodes and places for endpoints in, objects and questions out.

mod backends;
mod questions;
mod services;

use std::net::IpAddr;

use crate::{Node, Random, World};

/// Names that Service ports have.
const NAMES: [&str; 3] = ["http", "dns", "alt"];
/// Their numbers.
const PORTS: [u16; 4] = [53, 80, 443, 8000];

/// Where a Pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlace {
    /// Its node.
    pub node: String,
    /// Its IPv4 address.
    pub v4: IpAddr,
    /// Its IPv6 address.
    pub v6: IpAddr,
}

impl PodPlace {
    const fn address(&self, is_v4: bool) -> IpAddr {
        if is_v4 { self.v4 } else { self.v6 }
    }
}

/// What a world stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Where endpoints may be.
    pub places: Vec<PodPlace>,
    /// What they listen on.
    pub targets: Vec<u16>,
    /// Clients outside the cluster, in both families.
    pub outside: Vec<IpAddr>,
    /// Services may claim what others have, and some get their endpoints from Pods. No API server would hold such a world.
    pub is_wild: bool,
}

impl Ground {
    /// A world with so many Services.
    #[must_use]
    pub fn world(&self, random: &mut Random, services: u16) -> World {
        let mut world = World {
            nodes: self.nodes.clone(),
            ..World::default()
        };
        for number in 0..services {
            let service = self.service(random, number);
            if service.selector.is_some() {
                let places = random.some(&self.places);
                let pods = places.iter().zip(0_usize..);
                let pods = pods.map(|(place, index)| self.pod(random, &service, place, index));
                world.pods.extend(pods);
            } else {
                world.slices.extend(self.slices(random, &service));
            }
            world.services.push(service);
        }
        world
    }
}
