//! Which endpoints of a Service port may get a new connection on a node.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use crate::{Endpoint, Port, Question, Service, Slice, World};

/// The endpoints of a port in a family, as a node sees them.
pub(crate) struct Endpoints {
    all: BTreeMap<SocketAddr, Known>,
}

/// What all slices together say of an endpoint. Slices are written one by one, so that during a change one endpoint may be in
/// two of them: it is what the better one says.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    is_ready: bool,
    /// Terminating, but still answers.
    is_last_resort: bool,
    is_here: bool,
    has_zones: bool,
    is_for_zone: bool,
    has_nodes: bool,
    is_for_node: bool,
}

impl World {
    pub(crate) fn endpoints(
        &self,
        service: &Service,
        port: &Port,
        is_v4: bool,
        node: &str,
    ) -> Endpoints {
        let mut all: BTreeMap<SocketAddr, Known> = BTreeMap::new();
        for slice in self.slices_of(service) {
            if slice.is_v4 != is_v4 {
                continue;
            }
            let own = slice.ports.iter();
            let mut own = own.filter(|it| it.name == port.name && it.protocol == port.protocol);
            let Some(own) = own.next() else { continue };
            for endpoint in &slice.endpoints {
                let target = SocketAddr::new(endpoint.address, own.port);
                self.learn(all.entry(target).or_default(), endpoint, node);
            }
        }
        Endpoints { all }
    }

    /// Whether slices say two things of one endpoint of the port that is asked for.
    #[must_use]
    pub fn contradicts(&self, question: &Question) -> bool {
        let Some((service, port, _)) = self.asked(question) else {
            return false;
        };
        let mut said: BTreeMap<SocketAddr, &Endpoint> = BTreeMap::new();
        let slices = self.slices_of(service);
        for slice in slices.iter().filter(|it| it.is_v4 == question.to.is_ipv4()) {
            let own = slice.ports.iter();
            for own in own.filter(|it| it.name == port.name && it.protocol == port.protocol) {
                for endpoint in &slice.endpoints {
                    let target = SocketAddr::new(endpoint.address, own.port);
                    if *said.entry(target).or_insert(endpoint) != endpoint {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Those that are written, or else those that a controller would write for the Pods that the Service selects.
    fn slices_of(&self, service: &Service) -> Vec<Slice> {
        let written = self.slices.iter();
        let written: Vec<Slice> = written
            .filter(|slice| slice.service == service.name)
            .cloned()
            .collect();
        if written.is_empty() {
            return self.controller_slices(service);
        }
        written
    }

    fn learn(&self, known: &mut Known, endpoint: &Endpoint, node: &str) {
        let conditions = endpoint.conditions;
        let is_ready = conditions.ready.unwrap_or(true);
        let is_serving = conditions.serving.unwrap_or(true);
        let is_terminating = conditions.terminating.unwrap_or(false);
        known.is_ready |= is_ready;
        known.is_last_resort |= is_serving && is_terminating;
        known.is_here |= endpoint.node.as_deref() == Some(node);
        known.has_zones |= !endpoint.for_zones.is_empty();
        known.has_nodes |= !endpoint.for_nodes.is_empty();
        known.is_for_node |= endpoint.for_nodes.iter().any(|it| it == node);
        if let Some(zone) = self.zone_of(node) {
            known.is_for_zone |= endpoint.for_zones.contains(&zone);
        }
    }

    pub(crate) fn zone_of(&self, node: &str) -> Option<String> {
        let mut nodes = self.nodes.iter();
        nodes.find(|it| it.name == node)?.zone.clone()
    }
}

impl Endpoints {
    /// Ready ones; if there are none, those that terminate and still serve. A policy Local looks at the node alone.
    pub(crate) fn usable(&self, is_local: bool) -> BTreeSet<SocketAddr> {
        let of = |wanted: &dyn Fn(&Known) -> bool| -> BTreeSet<SocketAddr> {
            let near = |known: &Known| known.is_here || !is_local;
            let fit = self.all.iter();
            let fit = fit.filter(|(_, known)| near(known) && wanted(known));
            fit.map(|(target, _)| *target).collect()
        };
        let ready = of(&|known| known.is_ready);
        if ready.is_empty() {
            return of(&|known| known.is_last_resort);
        }
        if is_local {
            return ready;
        }
        // Hints are followed if every ready endpoint has one and one is for this node, or else this zone.
        let every =
            |wanted: fn(&Known) -> bool| self.all.values().filter(|it| it.is_ready).all(wanted);
        let same_node = of(&|known| known.is_ready && known.is_for_node);
        if every(|known| known.has_nodes) && !same_node.is_empty() {
            return same_node;
        }
        let same_zone = of(&|known| known.is_ready && known.is_for_zone);
        if every(|known| known.has_zones) && !same_zone.is_empty() {
            return same_zone;
        }
        ready
    }
}
