//! Random worlds on given ground: nodes and places for endpoints in, objects and questions out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    Client, Conditions, Endpoint, Ingress, Kind, Node, Pod, PodPort, Port, Protocol, Question,
    Random, Range, Service, Slice, SlicePort, TargetPort, Way, World,
};

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

    fn service(&self, random: &mut Random, number: u16) -> Service {
        let kinds = [
            Kind::ClusterIp,
            Kind::NodePort,
            Kind::LoadBalancer,
            Kind::LoadBalancer,
        ];
        let mut kind = *random.pick(&kinds).unwrap_or(&Kind::ClusterIp);
        if random.one_in(20) {
            kind = Kind::ExternalName;
        }
        let is_balanced = kind == Kind::LoadBalancer;
        let without_node_ports = is_balanced && random.one_in(3);
        let has_node_ports = kind == Kind::NodePort || is_balanced && !without_node_ports;
        let cluster_ips = cluster_ips(random, kind, number);
        let external_local = (has_node_ports || is_balanced) && random.one_in(2);
        let of_family = |ips: Vec<IpAddr>| -> Vec<IpAddr> {
            let kept = ips.into_iter();
            // An API server takes any; those of a family that the Service lacks are nobody's.
            kept.filter(|_| !cluster_ips.is_empty()).collect()
        };
        let selects = self.is_wild && kind != Kind::ExternalName && random.one_in(4);
        let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        let distribution = random.pick(&distributions).map(|it| (*it).to_owned());
        Service {
            name: format!("s{number}"),
            created: u32::try_from(random.below(4)).unwrap_or_default(),
            proxy: random.one_in(12).then(|| "another".to_owned()),
            kind,
            ports: self.ports(random, number, has_node_ports),
            internal_local: random.one_in(3),
            external_local,
            health_check_port: (is_balanced && external_local).then_some(31_000 + number),
            external_ips: of_family(if random.one_in(3) {
                self.shared(random, number, 1)
            } else {
                Vec::new()
            }),
            ingress: if is_balanced {
                self.ingress(random, number)
            } else {
                Vec::new()
            },
            source_ranges: if is_balanced && random.one_in(2) {
                self.ranges(random)
            } else {
                Vec::new()
            },
            without_node_ports,
            affinity_seconds: random.one_in(4).then_some(3600),
            publish_not_ready: random.one_in(5),
            distribution: distribution.filter(|_| kind != Kind::ExternalName && random.one_in(3)),
            selector: selects.then(|| format!("app{number}")),
            cluster_ips,
        }
    }

    fn ports(&self, random: &mut Random, number: u16, has_node_ports: bool) -> Vec<Port> {
        let mut ports: Vec<Port> = Vec::new();
        let count = 1 + random.below(3);
        for (index, name) in (0_u16..)
            .zip(NAMES)
            .take(usize::try_from(count).unwrap_or(1))
        {
            let protocol = if random.one_in(3) {
                Protocol::Udp
            } else {
                Protocol::Tcp
            };
            let port = *random.pick(&PORTS).unwrap_or(&80);
            if ports
                .iter()
                .any(|it| (it.protocol, it.port) == (protocol, port))
            {
                continue;
            }
            // Wild ones have few numbers, so that two Services want one.
            let range = if self.is_wild { number % 2 } else { number };
            let target = random.pick(&self.targets).map_or(port, |it| *it);
            ports.push(Port {
                name: if count == 1 {
                    String::new()
                } else {
                    name.to_owned()
                },
                protocol,
                port,
                target: if random.one_in(2) {
                    TargetPort::Name(format!("{name}-in"))
                } else {
                    TargetPort::Number(target)
                },
                node_port: has_node_ports.then_some(30_000 + range * 4 + index),
            });
        }
        ports
    }

    fn ingress(&self, random: &mut Random, number: u16) -> Vec<Ingress> {
        let ips = self.shared(random, number, 2);
        ips.into_iter()
            .map(|ip| Ingress {
                ip,
                is_proxy: random.one_in(5),
            })
            .collect()
    }

    /// Addresses beside the cluster: a Service's own, or one of few.
    fn shared(&self, random: &mut Random, number: u16, of: u8) -> Vec<IpAddr> {
        let number = if self.is_wild {
            u16::try_from(random.below(2)).unwrap_or_default()
        } else {
            number
        };
        let mut both = vec![external(of, number, true), external(of, number, false)];
        match random.below(3) {
            0 => both.truncate(1),
            1 => drop(both.remove(0)),
            _ => {}
        }
        both
    }

    fn ranges(&self, random: &mut Random) -> Vec<Range> {
        let clients = self.outside.iter().copied();
        let pods = self.places.iter().flat_map(|it| [it.v4, it.v6]);
        let nodes = self
            .nodes
            .iter()
            .flat_map(|it| it.addresses.iter().copied());
        let known: Vec<IpAddr> = clients.chain(pods).chain(nodes).collect();
        let count = 1 + random.below(2);
        let ranges = (0..count).filter_map(|_| {
            let address = *random.pick(&known)?;
            let all: u8 = if address.is_ipv4() { 32 } else { 128 };
            let bits = match random.below(4) {
                0 => 0,
                1 => all - 8,
                _ => all,
            };
            // An API server takes no address with bits beyond the prefix any more; older objects have some.
            let address = if self.is_wild {
                address
            } else {
                masked(address, bits)
            };
            Some(Range { address, bits })
        });
        ranges.collect()
    }

    fn slices(&self, random: &mut Random, service: &Service) -> Vec<Slice> {
        let mut slices = Vec::new();
        let hints = random.below(6);
        for is_v4 in [true, false] {
            for index in 0..random.below(3) {
                let mut ports: Vec<SlicePort> = Vec::new();
                for port in &service.ports {
                    let number = random.pick(&self.targets).map_or(port.port, |it| *it);
                    if !random.one_in(8) {
                        let (name, protocol) = (port.name.clone(), port.protocol);
                        ports.push(SlicePort {
                            name,
                            protocol,
                            port: number,
                        });
                    }
                }
                let family = if is_v4 { "v4" } else { "v6" };
                let places = random.some(&self.places);
                let endpoints = places.iter().take(5);
                slices.push(Slice {
                    name: format!("{}-{family}-{index}", service.name),
                    service: service.name.clone(),
                    is_v4,
                    ports,
                    endpoints: endpoints
                        .map(|it| self.endpoint(random, it, is_v4, hints))
                        .collect(),
                });
            }
        }
        slices
    }

    fn endpoint(&self, random: &mut Random, place: &PodPlace, is_v4: bool, hints: u64) -> Endpoint {
        let node = self.nodes.iter().find(|node| node.name == place.node);
        let zone = node.and_then(|node| node.zone.clone());
        let other = random.pick(&["a", "b", "c"]).map(|it| (*it).to_owned());
        let (zone, is_told) = (
            if random.one_in(4) { other } else { zone },
            !random.one_in(12),
        );
        Endpoint {
            address: place.address(is_v4),
            conditions: conditions(random),
            node: (!random.one_in(8)).then(|| place.node.clone()),
            for_zones: zone
                .filter(|_| is_told && matches!(hints, 2 | 4))
                .into_iter()
                .collect(),
            for_nodes: Some(place.node.clone())
                .filter(|_| is_told && matches!(hints, 3 | 4))
                .into_iter()
                .collect(),
        }
    }

    fn pod(&self, random: &mut Random, service: &Service, place: &PodPlace, index: usize) -> Pod {
        let mut ports = Vec::new();
        for name in NAMES {
            if random.one_in(6) {
                continue;
            }
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let port = random.pick(&self.targets).map_or(8080, |it| *it);
                let name = format!("{name}-in");
                ports.push(PodPort {
                    name,
                    protocol,
                    port,
                });
            }
        }
        let mut addresses = vec![place.v4, place.v6];
        if random.one_in(6) {
            addresses.truncate(1);
        }
        Pod {
            name: format!("{}-{index}", service.name),
            app: service.selector.clone().unwrap_or_default(),
            node: place.node.clone(),
            addresses,
            is_ready: !random.one_in(4),
            is_terminating: random.one_in(3),
            is_finished: random.one_in(12),
            ports,
        }
    }

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

fn cluster_ips(random: &mut Random, kind: Kind, number: u16) -> Vec<IpAddr> {
    if kind == Kind::ExternalName || kind == Kind::ClusterIp && random.one_in(10) {
        return Vec::new();
    }
    let [high, low] = number.to_be_bytes();
    let v4 = Ipv4Addr::new(10, 96, 100 + high, low).into();
    let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0x6400 + number).into();
    match random.below(5) {
        0 => vec![v4],
        1 => vec![v6],
        2 => vec![v6, v4],
        _ => vec![v4, v6],
    }
}

/// The first address of a range.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(v4) => {
            let rest = u32::MAX.checked_shr(bits).unwrap_or(0);
            Ipv4Addr::from(v4.to_bits() & !rest).into()
        }
        IpAddr::V6(v6) => {
            let rest = u128::MAX.checked_shr(bits).unwrap_or(0);
            Ipv6Addr::from(v6.to_bits() & !rest).into()
        }
    }
}

/// RFC 5737 and RFC 3849: for documentation.
fn external(of: u8, number: u16, is_v4: bool) -> IpAddr {
    if is_v4 {
        let third = if of == 1 { 113 } else { 100 };
        let first = if of == 1 { 203 } else { 198 };
        let second = if of == 1 { 0 } else { 51 };
        let [_, last] = (number + 1).to_be_bytes();
        return Ipv4Addr::new(first, second, third, last).into();
    }
    Ipv6Addr::new(0x2001, 0xdb8, of.into(), 0, 0, 0, 0, number + 1).into()
}

fn conditions(random: &mut Random) -> Conditions {
    let (yes, no) = (Some(true), Some(false));
    let of = |ready, serving, terminating| Conditions {
        ready,
        serving,
        terminating,
    };
    let all = [
        of(yes, yes, no),
        of(yes, yes, no),
        of(None, None, None),
        of(no, no, no),
        of(no, None, None),
        of(no, yes, yes),
        of(no, yes, yes),
        of(no, yes, no),
        of(no, no, yes),
        of(None, None, yes),
    ];
    random.pick(&all).copied().unwrap_or_default()
}
