//! Random EndpointSlices and Pods, which often contradict each other.

use super::{Ground, NAMES, PodPlace};
use crate::{Conditions, Endpoint, Pod, PodPort, Protocol, Random, Service, Slice, SlicePort};

impl Ground {
    pub(super) fn slices(&self, random: &mut Random, service: &Service) -> Vec<Slice> {
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

    pub(super) fn pod(
        &self,
        random: &mut Random,
        service: &Service,
        place: &PodPlace,
        index: usize,
    ) -> Pod {
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
        of(no, None, yes),
        of(no, yes, yes),
        of(no, yes, yes),
        of(no, yes, no),
        of(no, no, yes),
        of(None, None, yes),
    ];
    random.pick(&all).copied().unwrap_or_default()
}
