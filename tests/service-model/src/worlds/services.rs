//! Random Services: which addresses, ports and policies each has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Ground, NAMES, PORTS};
use crate::{Ingress, Kind, Port, Protocol, Random, Range, Service, TargetPort};

impl Ground {
    pub(super) fn service(&self, random: &mut Random, number: u16) -> Service {
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
