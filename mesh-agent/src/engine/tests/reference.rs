//! What the kernel should hold, worked out slowly from a plain list of objects, with no index and no memory.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{Address, FrontendKey, Port};

use super::kernel::Routes;
use crate::{
    desired::Target,
    model::{
        Change, EndpointSlice, Object, ObjectId, Pod, PodPhase, Service, ServicePort, ServiceType,
        TargetPort,
    },
};

/// The objects by identity.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reference(BTreeMap<ObjectId, Object>);

impl Reference {
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Put(object) => {
                self.0.insert(object.id(), object.clone());
            }
            Change::Remove(id) => {
                self.0.remove(id);
            }
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

    /// Every frontend with its Service and port, winners only; no port for a whole address.
    fn frontends(&self) -> BTreeMap<FrontendKey, (&Service, Option<&ServicePort>)> {
        let mut services: Vec<&Service> = self.services().collect();
        services.sort_by_key(|service| {
            let created = service.created.unwrap_or(i64::MAX);
            (created, service.name.clone())
        });
        let mut won = BTreeMap::new();
        for service in services {
            for address in &service.cluster_ips {
                let address = Address::from(*address);
                let whole = FrontendKey::whole_address(address);
                won.entry(whole).or_insert((service, None));
                for port in &service.ports {
                    let number = port.protocol.number();
                    let key = FrontendKey::new(address, Port::new(port.port), number);
                    won.entry(key).or_insert((service, Some(port)));
                }
            }
        }
        won
    }

    pub(crate) fn affinities(&self) -> BTreeMap<FrontendKey, u32> {
        self.frontends()
            .into_iter()
            .filter(|(_, (_, port))| port.is_some())
            .map(|(key, (service, _))| (key, service.affinity_seconds.unwrap_or(0)))
            .collect()
    }

    pub(crate) fn routes(&self) -> Routes {
        self.frontends()
            .into_iter()
            .map(|(key, (service, port))| {
                let targets = port.map(|port| self.targets(service, port, key.address().is_v4()));
                (key, targets.unwrap_or_default())
            })
            .collect()
    }

    fn targets(&self, service: &Service, port: &ServicePort, v4: bool) -> BTreeSet<Target> {
        let endpoints = self.endpoints(service, port);
        let of = |ready: bool| -> BTreeSet<Target> {
            endpoints
                .iter()
                .filter(|(target, _, _)| target.address.is_v4() == v4)
                .filter(|(_, is_ready, is_fallback)| if ready { *is_ready } else { *is_fallback })
                .map(|(target, _, _)| *target)
                .collect()
        };
        let ready = of(true);
        if ready.is_empty() { of(false) } else { ready }
    }

    /// (target, ready, serving and terminating)
    fn endpoints(&self, service: &Service, port: &ServicePort) -> Vec<(Target, bool, bool)> {
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
                    let fallback = endpoint.serving && endpoint.terminating;
                    found.push((target, endpoint.ready, fallback));
                }
            }
        }
        found
    }

    fn endpoints_of_pods(
        &self,
        service: &Service,
        port: &ServicePort,
    ) -> Vec<(Target, bool, bool)> {
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
                    let ready = service.publish_not_ready || (pod.ready && !pod.terminating);
                    found.push((target, ready, pod.ready && pod.terminating));
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
