//! What Services and Pods are served at, and what becomes of their claims when they, or the node's addresses, change.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use mesh_common::FrontendKey;

use super::{
    Exposure, Store, Touched,
    claims::Claim,
    cluster_ips,
    exposure::{self, NodeAddresses},
    owner, replace,
};
use crate::config::PortRange;
use crate::model::{
    ContainerPort, EndpointSlice, Kind, Node, NodePortAddresses, ObjectId, ObjectName, Pod,
    Service, ServicePort,
};

impl Store {
    /// What may have frontends: every Service, and the Pods with host ports that this node serves.
    pub fn owners(&self) -> impl Iterator<Item = ObjectId> {
        let services = self.services.keys().map(ObjectId::service);
        let pods = self.at_node.iter().filter(|owner| owner.kind == Kind::Pod);
        services.chain(pods.cloned())
    }

    /// The cluster's node ports, as far as the agent was told.
    #[must_use]
    pub const fn node_ports(&self) -> Option<PortRange> {
        self.options.node_ports
    }

    /// Where node ports are served; None for all addresses.
    #[must_use]
    pub fn node_port_addresses(&self) -> Option<BTreeSet<IpAddr>> {
        match self.options.node_port_addresses {
            NodePortAddresses::All => None,
            NodePortAddresses::Primary | NodePortAddresses::Ranges(_) => {
                Some(self.addresses.node_ports())
            }
        }
    }

    /// The frontends that a port of a Service asks for.
    #[must_use]
    pub fn frontends(
        &self,
        service: &Service,
        port: &ServicePort,
    ) -> BTreeMap<FrontendKey, Exposure> {
        exposure::of_service_port(service, port, &self.addresses)
    }

    /// The frontends that a container's host port asks for; none unless this node serves the Pod's.
    #[must_use]
    pub fn host_frontends(&self, pod: &Pod, port: &ContainerPort) -> BTreeSet<FrontendKey> {
        if !exposure::has_host_ports(pod, &self.options) {
            return BTreeSet::new();
        }
        exposure::of_container_port(pod, port, &self.addresses)
    }

    pub(super) fn set_node(&mut self, name: &ObjectName, new: Option<Node>, touched: &mut Touched) {
        let zone = |node: &Option<Node>| node.as_ref().and_then(|node| node.zone.clone());
        let after = zone(&new);
        let before = replace(&mut self.nodes, name, new);
        if zone(&before) != after {
            self.touch_hinted(touched);
        }
        if *name.name == *self.options.node {
            self.set_addresses(touched);
        }
    }

    /// A node is in another zone: which endpoints are near may be others. That is rare, so all Services are looked at.
    fn touch_hinted(&self, touched: &mut Touched) {
        let hinted = |slice: &&EndpointSlice| slice.endpoints.iter().any(|it| it.hints.is_some());
        let slices = self.slices.values().filter(hinted).filter_map(owner);
        let services = self.services.values();
        let services = services.filter(|service| service.distribution.is_some());
        let names = slices.chain(services.map(|service| service.name.clone()));
        touched
            .owners
            .extend(names.map(|name| ObjectId::service(&name)));
    }

    /// The node's addresses may be others: what is served there claims anew.
    pub(super) fn set_addresses(&mut self, touched: &mut Touched) {
        let own = self.own_addresses.clone().unwrap_or_default();
        let node = self.node(&ObjectName::new("", &self.options.node));
        let new = NodeAddresses::new(&own, node, &self.options);
        if new == self.addresses {
            return;
        }
        let before: Vec<BTreeSet<Claim>> = self.claims_at_node().collect();
        self.addresses = new;
        let after: Vec<BTreeSet<Claim>> = self.claims_at_node().collect();
        for (before, after) in before.iter().zip(&after) {
            self.claims.replace(before, after, &mut touched.owners);
        }
        touched.owners.extend(self.at_node.iter().cloned());
    }

    /// Of each that the node's addresses matter to.
    fn claims_at_node(&self) -> impl Iterator<Item = BTreeSet<Claim>> {
        self.at_node.iter().map(|owner| {
            if owner.kind == Kind::Pod {
                self.claims_of_pod(self.pods.get(&owner.name))
            } else {
                self.claims_of_service(self.services.get(&owner.name))
            }
        })
    }

    /// Each frontend, and each ClusterIP as a whole.
    pub(super) fn claims_of_service(&self, service: Option<&Service>) -> BTreeSet<Claim> {
        let Some(service) = service else {
            return BTreeSet::new();
        };
        let owner = ObjectId::service(&service.name);
        let ports = service.ports.iter();
        let frontends = ports.flat_map(|port| self.frontends(service, port).into_keys());
        let whole = cluster_ips(service).map(FrontendKey::whole_address);
        let keys = frontends.chain(whole);
        keys.map(|key| Claim::new(key, service.created, &owner))
            .collect()
    }

    fn claims_of_pod(&self, pod: Option<&Pod>) -> BTreeSet<Claim> {
        let Some(pod) = pod else {
            return BTreeSet::new();
        };
        let owner = ObjectId::pod(&pod.name);
        let ports = pod.ports.iter();
        let frontends = ports.flat_map(|port| self.host_frontends(pod, port));
        frontends
            .map(|key| Claim::new(key, pod.created, &owner))
            .collect()
    }

    pub(super) fn set_host_ports(
        &mut self,
        name: &ObjectName,
        new: Option<&Pod>,
        touched: &mut Touched,
    ) {
        let id = ObjectId::pod(name);
        let has = new.is_some_and(|pod| exposure::has_host_ports(pod, &self.options));
        if !has && !self.at_node.contains(&id) {
            return;
        }
        let claims = [self.pods.get(name), new].map(|pod| self.claims_of_pod(pod));
        self.claims
            .replace(&claims[0], &claims[1], &mut touched.owners);
        touched.owners.insert(id.clone());
        if has {
            self.at_node.insert(id);
        } else {
            self.at_node.remove(&id);
        }
    }
}
