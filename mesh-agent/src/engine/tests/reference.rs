//! What the kernel should hold, worked out slowly from a plain list of objects, with no index and no memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

use mesh_common::{Address, FrontendKey, Port};

use super::kernel::{Route, Routes};
use crate::{
    desired::{Family, PortId, Target},
    model::{
        Change, ContainerPort, EndpointSlice, Kind, Object, ObjectId, Pod, PodPhase, Protocol,
        Service, ServicePort, ServiceType, TargetPort, TrafficDistribution, TrafficPolicy,
    },
};

/// The objects by identity, and the node's addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reference(BTreeMap<ObjectId, Object>, BTreeSet<std::net::IpAddr>);

/// Who has a frontend.
#[derive(Clone, Copy, Debug)]
enum Holder<'a> {
    Service(&'a Service, Option<&'a ServicePort>),
    Pod(&'a Pod, &'a ContainerPort),
}

/// What is said of an endpoint.
#[derive(Clone, Debug, Default)]
struct Known {
    ready: bool,
    /// Serving and terminating.
    fallback: bool,
    /// On this node.
    here: bool,
    zones: BTreeSet<String>,
    nodes: BTreeSet<String>,
}

/// Whom a frontend is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) external: bool,
    /// Only from the host's own network.
    pub(crate) host: bool,
    /// Empty for all.
    pub(crate) ranges: BTreeSet<(Address, u32)>,
}

impl Reference {
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Put(object) => {
                self.0.insert(object.id(), object.clone());
            }
            Change::Remove(id) => {
                self.0.remove(id);
            }
            Change::NodeAddresses(addresses) => self.1.clone_from(addresses),
            Change::Synced(_) | Change::Incomplete(_) => {}
        }
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        let services = self.0.values().filter_map(|object| {
            let Object::Service(service) = object else {
                return None;
            };
            Some(service)
        });
        services.filter(|service| service.service_type != ServiceType::ExternalName)
    }

    fn slices(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.0.values().filter_map(|object| {
            let Object::EndpointSlice(slice) = object else {
                return None;
            };
            Some(slice)
        })
    }

    fn pods(&self) -> impl Iterator<Item = &Pod> {
        let pods = self.0.values().filter_map(|object| {
            let Object::Pod(pod) = object else {
                return None;
            };
            Some(pod)
        });
        pods.filter(|pod| !matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed))
    }

    pub(crate) fn alive(&self) -> BTreeSet<Address> {
        let slices = self.slices().flat_map(|slice| &slice.endpoints);
        let pods = self.pods().flat_map(|pod| &pod.addresses);
        slices
            .map(|endpoint| endpoint.address.into())
            .chain(pods.map(|address| (*address).into()))
            .collect()
    }

    pub(crate) fn addresses(&self) -> Change {
        Change::NodeAddresses(self.1.clone())
    }

    /// Every frontend with whose it is and whom it is for, winners only; no port for a whole address.
    fn frontends(&self) -> BTreeMap<FrontendKey, (Holder<'_>, Access)> {
        let mut wishes = Vec::new();
        for service in self.services() {
            let age = service.created.unwrap_or(i64::MAX);
            let rank = (age, Kind::Service, service.name.clone());
            wishes.extend(wishes_of(service, &self.1).map(|wish| (rank.clone(), wish)));
        }
        for pod in self.pods() {
            let age = pod.created.unwrap_or(i64::MAX);
            let rank = (age, Kind::Pod, pod.name.clone());
            wishes.extend(host_ports_of(pod, &self.1).map(|wish| (rank.clone(), wish)));
        }
        wishes.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut won = BTreeMap::new();
        for (_, (key, holder, access)) in wishes {
            won.entry(key).or_insert((holder, access));
        }
        won
    }

    /// Whose each frontend is: object, protocol and port.
    pub(crate) fn owners(&self) -> BTreeMap<FrontendKey, (ObjectId, u8, u16)> {
        let owner = |(key, (holder, _)): (FrontendKey, (Holder<'_>, Access))| {
            let owner = match holder {
                Holder::Service(service, port) => {
                    let number = port.map_or((0, 0), |port| (port.protocol.number(), port.port));
                    (ObjectId::service(&service.name), number.0, number.1)
                }
                Holder::Pod(pod, port) => {
                    (ObjectId::pod(&pod.name), port.protocol.number(), port.port)
                }
            };
            (key, owner)
        };
        self.frontends().into_iter().map(owner).collect()
    }

    pub(crate) fn accesses(&self) -> BTreeMap<FrontendKey, Access> {
        let frontends = self.frontends().into_iter();
        frontends.map(|(key, (_, access))| (key, access)).collect()
    }

    pub(crate) fn affinities(&self) -> BTreeMap<FrontendKey, u32> {
        let seconds = |holder: &Holder<'_>| match holder {
            Holder::Service(service, Some(_)) => Some(service.affinity_seconds.unwrap_or(0)),
            Holder::Service(_, None) => None,
            Holder::Pod(..) => Some(0),
        };
        self.frontends()
            .into_iter()
            .filter_map(|(key, (holder, _))| Some((key, seconds(&holder)?)))
            .collect()
    }

    /// By which policy clients are led, inside and outside.
    pub(crate) fn policies(&self) -> BTreeMap<Route, TrafficPolicy> {
        let mut policies = BTreeMap::new();
        for (key, (holder, access)) in self.frontends() {
            let Holder::Service(service, Some(_)) = holder else {
                continue;
            };
            for outside in [false, true] {
                policies.insert((key, outside), policy(service, access.external, outside));
            }
        }
        policies
    }

    /// The service port that has a frontend.
    pub(crate) fn port_of(&self, key: &FrontendKey) -> Option<PortId> {
        let (owner, _, port) = self.owners().get(key)?.clone();
        Some(PortId {
            owner,
            family: Family::of(key.address()),
            protocol: Protocol::from_number(key.protocol())?,
            port,
        })
    }

    pub(crate) fn routes(&self) -> Routes {
        let targets = |key: &FrontendKey, holder: &Holder<'_>, external, outside| match holder {
            Holder::Service(_, None) => BTreeSet::new(),
            Holder::Service(service, Some(port)) => {
                let policy = policy(service, external, outside);
                self.targets(service, port, key.address().is_v4(), policy)
            }
            Holder::Pod(pod, port) => own_target(pod, port, key.address().is_v4()),
        };
        let mut routes = Routes::new();
        for (key, (holder, access)) in self.frontends() {
            for outside in [false, true] {
                let found = targets(&key, &holder, access.external, outside);
                routes.insert((key, outside), found);
            }
        }
        routes
    }

    /// Where a service port leads by any policy, whatever frontends it has.
    pub(crate) fn targets_of(&self, id: &PortId) -> BTreeSet<Target> {
        let v4 = id.family == Family::V4;
        match self.0.get(&id.owner) {
            Some(Object::Service(service)) => {
                let mut ports = service.ports.iter();
                let port = ports.find(|it| (it.protocol, it.port) == (id.protocol, id.port));
                let policies = [TrafficPolicy::Cluster, TrafficPolicy::Local];
                let targets = port.into_iter().flat_map(|port| {
                    policies.map(|policy| self.targets(service, port, v4, policy))
                });
                targets.flatten().collect()
            }
            Some(Object::Pod(pod)) => {
                let mut ports = pod.ports.iter();
                let port = ports.find(|it| (it.protocol, it.port) == (id.protocol, id.port));
                port.map_or_else(BTreeSet::new, |port| own_target(pod, port, v4))
            }
            _ => BTreeSet::new(),
        }
    }

    /// The documented rules: of a policy's endpoints the ready ones, and only if there are none those that are serving
    /// and terminating. If each ready one of the cluster has node hints and one is for this node, those for this node; if
    /// each has zone hints and one is for this zone, those for this zone.
    fn targets(
        &self,
        service: &Service,
        port: &ServicePort,
        v4: bool,
        policy: TrafficPolicy,
    ) -> BTreeSet<Target> {
        let mut known: BTreeMap<Target, Known> = BTreeMap::new();
        for (target, own) in self.endpoints(service, port) {
            if target.address.is_v4() != v4 {
                continue;
            }
            let all = known.entry(target).or_default();
            all.ready |= own.ready;
            all.fallback |= own.fallback;
            all.here |= own.here;
            all.zones.extend(own.zones);
            all.nodes.extend(own.nodes);
        }
        if policy == TrafficPolicy::Local {
            known.retain(|_, own| own.here);
        }
        let only = |known: &BTreeMap<Target, Known>, wanted: &dyn Fn(&Known) -> bool| {
            let wanted = known.iter().filter(|(_, own)| wanted(own));
            wanted.map(|(target, _)| *target).collect::<BTreeSet<_>>()
        };
        if !known.values().any(|own| own.ready) {
            return only(&known, &|own| own.fallback);
        }
        known.retain(|_, own| own.ready);
        if policy == TrafficPolicy::Cluster {
            let here = "one".to_owned();
            if known.values().all(|own| !own.nodes.is_empty())
                && known.values().any(|own| own.nodes.contains(&here))
            {
                return only(&known, &|own| own.nodes.contains(&here));
            }
            if let Some(zone) = self.zone_of("one")
                && known.values().all(|own| !own.zones.is_empty())
                && known.values().any(|own| own.zones.contains(&zone))
            {
                return only(&known, &|own| own.zones.contains(&zone));
            }
        }
        only(&known, &|_| true)
    }

    fn zone_of(&self, name: &str) -> Option<String> {
        let node = self.0.values().find_map(|object| {
            let Object::Node(node) = object else {
                return None;
            };
            (*node.name.name == *name).then_some(node)
        });
        Some(node?.zone.as_ref()?.to_string())
    }

    /// As often as they are named.
    fn endpoints(&self, service: &Service, port: &ServicePort) -> Vec<(Target, Known)> {
        let own: Vec<&EndpointSlice> = self
            .slices()
            .filter(|slice| {
                slice.name.namespace == service.name.namespace
                    && slice.service.as_ref() == Some(&service.name.name)
            })
            .collect();
        if own.is_empty() {
            return self.endpoints_of_pods(service, port);
        }
        let mut found = Vec::new();
        for slice in own {
            for own_port in &slice.ports {
                if own_port.name != port.name || own_port.protocol != port.protocol {
                    continue;
                }
                for endpoint in &slice.endpoints {
                    let target = Target {
                        address: endpoint.address.into(),
                        port: Port::new(own_port.port),
                    };
                    let hints = endpoint.hints.clone().unwrap_or_default();
                    let texts = |names: &[std::sync::Arc<str>]| {
                        names.iter().map(ToString::to_string).collect()
                    };
                    let known = Known {
                        ready: endpoint.ready,
                        fallback: endpoint.serving && endpoint.terminating,
                        here: endpoint.node.as_deref() == Some("one"),
                        zones: texts(&hints.zones),
                        nodes: texts(&hints.nodes),
                    };
                    found.push((target, known));
                }
            }
        }
        found
    }

    fn endpoints_of_pods(&self, service: &Service, port: &ServicePort) -> Vec<(Target, Known)> {
        let mut found = Vec::new();
        if service.selector.is_empty() {
            return found;
        }
        for pod in self.pods() {
            let selected = pod.name.namespace == service.name.namespace
                && service
                    .selector
                    .iter()
                    .all(|(key, value)| pod.labels.get(key) == Some(value));
            let number = match &port.target {
                TargetPort::Number(number) => Some(*number),
                TargetPort::Name(name) => pod
                    .ports
                    .iter()
                    .find(|own| own.name == *name && own.protocol == port.protocol)
                    .map(|own| own.port),
            };
            let (true, Some(number)) = (selected, number) else {
                continue;
            };
            for v4 in [true, false] {
                let mut addresses = pod.addresses.iter().map(|address| Address::from(*address));
                if let Some(address) = addresses.find(|address| address.is_v4() == v4) {
                    let target = Target {
                        address,
                        port: Port::new(number),
                    };
                    let near = service.distribution;
                    let node = pod.node.as_deref();
                    let node = node.filter(|_| near == Some(TrafficDistribution::SameNode));
                    let zone = pod.node.as_deref().and_then(|node| self.zone_of(node));
                    let known = Known {
                        ready: service.publish_not_ready || (pod.ready && !pod.terminating),
                        fallback: pod.ready && pod.terminating,
                        here: pod.node.as_deref() == Some("one"),
                        zones: zone.filter(|_| near.is_some()).into_iter().collect(),
                        nodes: node.into_iter().map(ToOwned::to_owned).collect(),
                    };
                    found.push((target, known));
                }
            }
        }
        found
    }
}

impl Reference {
    /// Every object as a source would deliver it.
    pub(crate) fn changes(&self) -> Vec<Change> {
        self.0.values().cloned().map(Change::Put).collect()
    }
}

fn policy(service: &Service, external: bool, outside: bool) -> TrafficPolicy {
    match (external, outside) {
        (false, _) => service.internal_policy,
        (true, true) => service.external_policy,
        (true, false) => TrafficPolicy::Cluster,
    }
}

type Wish<'a> = (FrontendKey, Holder<'a>, Access);

/// In the order in which a Service's own wishes count.
fn wishes_of<'a>(
    service: &'a Service,
    node: &BTreeSet<std::net::IpAddr>,
) -> impl Iterator<Item = Wish<'a>> + use<'a> {
    let mut wishes = Vec::new();
    let external = Access {
        external: true,
        ..Access::default()
    };
    for port in &service.ports {
        let mut add = |address: Address, number: u16, access: &Access| {
            let served = service.cluster_ips.iter();
            let mut served = served.map(|it| Address::from(*it).is_v4());
            if served.any(|v4| v4 == address.is_v4()) {
                let key = FrontendKey::new(address, Port::new(number), port.protocol.number());
                wishes.push((key, Holder::Service(service, Some(port)), access.clone()));
            }
        };
        for ip in &service.load_balancer_ips {
            let ranges = service.source_ranges.iter();
            let ranges = ranges.filter(|range| range.addr().is_ipv4() == ip.is_ipv4());
            let bits = |range: &ipnet::IpNet| {
                let v4 = if range.addr().is_ipv4() { 96 } else { 0 };
                (range.network().into(), v4 + u32::from(range.prefix_len()))
            };
            let access = Access {
                external: true,
                host: false,
                ranges: ranges.map(bits).collect(),
            };
            add((*ip).into(), port.port, &access);
        }
        for ip in &service.external_ips {
            add((*ip).into(), port.port, &external);
        }
        for ip in node.iter().filter(|ip| !ip.is_loopback()) {
            if let Some(number) = port.node_port {
                add((*ip).into(), number, &external);
            }
        }
        for ip in &service.cluster_ips {
            add((*ip).into(), port.port, &Access::default());
        }
    }
    for ip in &service.cluster_ips {
        let key = FrontendKey::whole_address((*ip).into());
        wishes.push((key, Holder::Service(service, None), Access::default()));
    }
    wishes.into_iter()
}

fn host_ports_of<'a>(
    pod: &'a Pod,
    node: &BTreeSet<std::net::IpAddr>,
) -> impl Iterator<Item = Wish<'a>> + use<'a> {
    let mut wishes = Vec::new();
    let here = pod.node.as_deref() == Some("one") && !pod.host_network;
    for port in pod.ports.iter().filter(|_| here) {
        let Some(host) = port.host else {
            continue;
        };
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let named = host.address.filter(|wanted| wanted.is_loopback());
        let places = node.iter().copied().chain(loopback).chain(named);
        for ip in places.collect::<BTreeSet<std::net::IpAddr>>() {
            let wanted = host.address.is_none_or(|wanted| {
                wanted == ip || wanted.is_unspecified() && wanted.is_ipv4() == ip.is_ipv4()
            });
            let has_family = pod
                .addresses
                .iter()
                .any(|own| own.is_ipv4() == ip.is_ipv4());
            if wanted && has_family {
                let number = port.protocol.number();
                let key = FrontendKey::new(ip.into(), Port::new(host.port), number);
                let access = Access {
                    external: true,
                    host: ip.is_loopback(),
                    ..Access::default()
                };
                wishes.push((key, Holder::Pod(pod, port), access));
            }
        }
    }
    wishes.into_iter()
}

fn own_target(pod: &Pod, port: &ContainerPort, v4: bool) -> BTreeSet<Target> {
    let mut addresses = pod.addresses.iter().map(|it| Address::from(*it));
    let address = addresses.find(|address| address.is_v4() == v4);
    let target = address.map(|address| Target {
        address,
        port: Port::new(port.port),
    });
    target.into_iter().collect()
}
