//! What the commands show: read-only, made anew for each call.

use std::{collections::BTreeMap, net::IpAddr};

use mesh_common::{FrontendKey, FrontendValue, ServiceId, SetId, SourceRangeKey};

use super::{Engine, Random, WithoutLocal};
use crate::{
    apply::{Clock, MapWriter},
    desired::{Finding, HealthCheck, PortId},
    model::{ObjectId, ObjectName, Service, ServiceType, TrafficPolicy},
    plan::{Applied, BackendRecord, Usage},
    store::Store,
};

/// A Service and what the kernel holds for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// Its name.
    pub name: ObjectName,
    /// spec.type; None if the Service is gone and only its last backends are kept.
    pub service_type: Option<ServiceType>,
    /// spec.clusterIPs
    pub cluster_ips: Vec<IpAddr>,
    /// spec.externalIPs
    pub external_ips: Vec<IpAddr>,
    /// status.loadBalancer.ingress[].ip of mode VIP.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Its traffic policies, internal and external.
    pub policies: Option<[TrafficPolicy; 2]>,
    /// spec.healthCheckNodePort, where it is answered.
    pub health_check_port: Option<u16>,
    /// Its ports in the kernel.
    pub ports: Vec<PortView>,
    /// What its owner should know.
    pub findings: Vec<Finding>,
}

/// A service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// Service, family, protocol and port.
    pub id: PortId,
    /// The port's name; empty when the Service gives none.
    pub name: String,
    /// nodePort
    pub node_port: Option<u16>,
    /// Index in `services`.
    pub service: ServiceId,
    /// Index in `sets`.
    pub set: SetId,
    /// Index in `sets` of those on this node; 0 while no policy is Local.
    pub local_set: SetId,
    /// Session affinity as it is in force; 0 for none.
    pub affinity_seconds: u32,
    /// What clients ask for, and as what it is in force.
    pub frontends: Vec<(FrontendKey, FrontendValue)>,
    /// Whom the frontends with ranges are open to.
    pub ranges: Vec<SourceRangeKey>,
    /// Where they are led.
    pub backends: Vec<BackendView>,
}

/// A backend of a service port.
pub type BackendView = BackendRecord;

impl<W: MapWriter, C: Clock, R: Random> Engine<W, C, R> {
    /// Whether the first full state has been written, except for what does not fit.
    #[must_use]
    pub fn is_programmed(&self) -> bool {
        self.programmed
    }

    /// Whether a Service that is written goes by who its clients are.
    #[must_use]
    pub fn asks_for_clients(&self) -> bool {
        self.applied.asks_for_clients()
    }

    /// Services and Pods that wait to be written, those that do not fit included.
    #[must_use]
    pub fn dirty(&self) -> usize {
        self.queue.len() + self.findings.unfit().len()
    }

    /// Whether a write failed and has not succeeded since.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.findings.has_failing() || self.garbage.is_some_and(|retry| retry.has_failed())
    }

    /// How often a write failed, by map.
    #[must_use]
    pub fn write_failures(&self) -> &BTreeMap<&'static str, u64> {
        &self.write_failures
    }

    /// How full each map is.
    #[must_use]
    pub fn usage(&self) -> [Usage; 6] {
        self.applied.usage()
    }

    /// The objects.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What the kernel holds, as far as the agent knows.
    #[must_use]
    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// The kernel's tables.
    pub fn writer(&mut self) -> &mut W {
        &mut self.writer
    }

    /// Every Service, by name.
    pub fn service_views(&self) -> impl Iterator<Item = ServiceView> {
        self.store
            .services()
            .filter_map(|service| self.service_view(&service.name))
    }

    /// One Service; None if there is nothing of that name, neither among the objects nor in the kernel.
    #[must_use]
    pub fn service_view(&self, name: &ObjectName) -> Option<ServiceView> {
        let service = self.store.service(name);
        let addresses =
            |of: fn(&Service) -> &Vec<IpAddr>| service.map_or_else(Vec::new, |it| of(it).clone());
        let ports: Vec<PortView> = self.port_views(name, service).collect();
        if service.is_none() && ports.is_empty() {
            return None;
        }
        Some(ServiceView {
            name: name.clone(),
            service_type: service.map(|service| service.service_type),
            cluster_ips: addresses(|service| &service.cluster_ips),
            external_ips: addresses(|service| &service.external_ips),
            load_balancer_ips: addresses(|service| &service.load_balancer_ips),
            policies: service.map(|it| [it.internal_policy, it.external_policy]),
            health_check_port: service.and_then(|it| it.health_check_port),
            ports,
            findings: self.findings.of(&ObjectId::service(name)),
        })
    }

    /// What users should know of their Services, by name.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        self.findings.all()
    }

    /// The health checks that Services ask for.
    #[must_use]
    pub fn health_checks(&self) -> &BTreeMap<ObjectName, HealthCheck> {
        self.standing.health()
    }

    /// Another number whenever `health_checks` may say something else.
    #[must_use]
    pub fn health_checks_revision(&self) -> u64 {
        self.standing.revision()
    }

    /// Health checks that cannot be answered, all of them.
    pub fn set_health_failures(&mut self, failures: BTreeMap<ObjectId, Finding>) {
        self.findings.set_unanswered(failures);
    }

    /// Service ports that a policy Local leaves without endpoints although there are some.
    #[must_use]
    pub fn without_local(&self) -> WithoutLocal {
        self.standing.total()
    }

    /// Another number whenever `findings` may say something else.
    #[must_use]
    pub fn findings_revision(&self) -> u64 {
        self.findings.revision()
    }

    fn port_views(
        &self,
        name: &ObjectName,
        service: Option<&Service>,
    ) -> impl Iterator<Item = PortView> {
        let owner = ObjectId::service(name);
        let ports: Vec<_> = self.applied.ports_of(&owner).collect();
        ports.into_iter().map(move |(id, set, record)| {
            let port = service
                .into_iter()
                .flat_map(|service| &service.ports)
                .find(|port| port.port == id.port && port.protocol == id.protocol);
            PortView {
                id: id.clone(),
                name: port.map_or_else(String::new, |port| port.name.to_string()),
                node_port: port.and_then(|port| port.node_port),
                service: record.service,
                set,
                local_set: record.local,
                affinity_seconds: self.applied.affinity_seconds(record.service),
                frontends: record
                    .frontends
                    .iter()
                    .filter_map(|key| Some((*key, self.applied.frontend(key)?)))
                    .collect(),
                ranges: self.applied.ranges_of(record.service).collect(),
                backends: self.applied.backends_of(set),
            }
        })
    }
}
