//! The objects as the sources delivered them last, the indexes that `desired` needs, and which Services a change
//! touches. Changes come in; nothing here knows the kernel.

mod alive;
mod claims;
mod exposure;
mod labels;
mod served;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU64,
    sync::Arc,
};

use mesh_common::{Address, FrontendKey};

use crate::config::PortRange;
use crate::model::{
    Change, EndpointSlice, Kind, Node, NodePortAddresses, Object, ObjectId, ObjectName, Pod,
    PodPhase, Service,
};
use alive::Alive;
use claims::Claims;
pub use exposure::Exposure;
use exposure::NodeAddresses;
pub(crate) use exposure::cluster_ips;
use labels::{LabelIndex, selects};

/// What changes have touched since it was last emptied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Services, and Pods with host ports, whose desired state may be another now.
    pub owners: BTreeSet<ObjectId>,
    /// Addresses that no EndpointSlice and no unfinished Pod has any more. One may have come back since.
    pub died: BTreeSet<Address>,
    /// Endpoints that another Pod came to, by address and port: what was connected to the Pod before is not connected to it.
    pub replaced: BTreeSet<(Address, u16)>,
}

/// What does not change while the agent runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// This node's name.
    pub node: String,
    /// --nodeport-addresses
    pub node_port_addresses: NodePortAddresses,
    /// --nodeport-range; None where any will do.
    pub node_ports: Option<PortRange>,
    /// Endpoints come from EndpointSlices alone: of Pods only this node's are known.
    pub slices_only: bool,
}

/// All objects of the cluster that the agent was told of.
#[derive(Clone, Debug, Default)]
pub struct Store {
    options: StoreOptions,
    services: BTreeMap<ObjectName, Service>,
    slices: BTreeMap<ObjectName, EndpointSlice>,
    pods: BTreeMap<ObjectName, Pod>,
    nodes: BTreeMap<ObjectName, Node>,
    namespaces: BTreeSet<ObjectName>,
    synced: BTreeSet<Kind>,
    incomplete: bool,
    /// (Service, name of a slice in its namespace).
    slices_of: BTreeSet<(ObjectName, Arc<str>)>,
    claims: Claims,
    /// All addresses that the node's devices have; None until they are known.
    own_addresses: Option<BTreeSet<IpAddr>>,
    /// Those that are served.
    addresses: NodeAddresses,
    /// Services with node ports, and Pods with host ports: what the node's addresses matter to.
    at_node: BTreeSet<ObjectId>,
    /// Services by the first label of their selector.
    selectors: LabelIndex,
    /// Pods by each of their labels.
    labels: LabelIndex,
    alive: Alive,
}

impl Store {
    /// Without any object.
    #[must_use]
    pub fn new(options: StoreOptions) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// Takes in a change and adds what it touches to `touched`.
    pub fn apply(&mut self, change: Change, touched: &mut Touched) {
        match change {
            Change::Put(object) => self.put(object, touched),
            Change::Remove(id) => self.remove(&id, touched),
            Change::Synced(kind) => {
                self.synced.insert(kind);
            }
            Change::Incomplete(incomplete) => self.incomplete = incomplete,
            Change::NodeAddresses(addresses) => {
                self.own_addresses = Some(addresses);
                self.set_addresses(touched);
            }
        }
    }

    /// Whether every kind has delivered its first full list, and the node's addresses are known.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.unsynced().next().is_none() && self.knows_addresses()
    }

    /// Whether these are the node's addresses as they are known.
    #[must_use]
    pub fn has_addresses(&self, addresses: &BTreeSet<IpAddr>) -> bool {
        self.own_addresses.as_ref() == Some(addresses)
    }

    /// Whether the node's addresses are known.
    #[must_use]
    pub const fn knows_addresses(&self) -> bool {
        self.own_addresses.is_some()
    }

    /// The kinds whose first full list is awaited.
    pub fn unsynced(&self) -> impl Iterator<Item = Kind> {
        Kind::ALL
            .into_iter()
            .filter(|kind| !self.synced.contains(kind))
    }

    /// Whether the source has something that it never could read.
    #[must_use]
    pub const fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// Whether there is any object that a Service's endpoints could come from.
    #[must_use]
    pub fn has_endpoint_sources(&self, service: &Service) -> bool {
        self.slices_of(&service.name).next().is_some() || self.pods_of(service).next().is_some()
    }

    /// Whether an EndpointSlice or an unfinished Pod has the address.
    #[must_use]
    pub fn is_alive(&self, address: Address) -> bool {
        self.alive.contains(address)
    }

    /// The Service or Pod that a frontend belongs to: of those that claim it the oldest, then the first by kind and name.
    #[must_use]
    pub fn winner(&self, key: &FrontendKey) -> Option<&ObjectId> {
        self.claims.winner(key)
    }

    /// A Pod.
    #[must_use]
    pub fn pod(&self, name: &ObjectName) -> Option<&Pod> {
        self.pods.get(name)
    }

    /// A Service.
    #[must_use]
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name)
    }

    /// Every Service, by name.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// The EndpointSlices of a Service, by name.
    pub fn slices_of(&self, service: &ObjectName) -> impl Iterator<Item = &EndpointSlice> {
        let first = (service.clone(), Arc::default());
        self.slices_of
            .range(first..)
            .take_while(move |(owner, _)| owner == service)
            .filter_map(|(owner, slice)| {
                self.slices.get(&ObjectName {
                    namespace: owner.namespace.clone(),
                    name: slice.clone(),
                })
            })
    }

    /// Whether there is any Pod that could be an endpoint without a slice.
    #[must_use]
    pub fn has_pods(&self) -> bool {
        !self.options.slices_only && !self.pods.is_empty()
    }

    /// The Pods that a Service's selector matches, by name; none without a selector, or where slices alone count.
    pub fn pods_of<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Pod> {
        let namespace = &service.name.namespace;
        service
            .selector
            .first_key_value()
            .filter(|_| !self.options.slices_only)
            .into_iter()
            .flat_map(|(key, value)| self.labels.names(namespace, key, value))
            .filter_map(|name| {
                self.pods.get(&ObjectName {
                    namespace: namespace.clone(),
                    name: name.clone(),
                })
            })
            .filter(|pod| selects(&service.selector, &pod.labels))
    }

    /// A node.
    #[must_use]
    pub fn node(&self, name: &ObjectName) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// This node's name.
    #[must_use]
    pub fn own_node(&self) -> &str {
        &self.options.node
    }

    /// How many objects of a kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::EndpointSlice => self.slices.len(),
            Kind::Namespace => self.namespaces.len(),
            Kind::Node => self.nodes.len(),
            Kind::Pod => self.pods.len(),
            Kind::Service => self.services.len(),
        }
    }

    fn put(&mut self, object: Object, touched: &mut Touched) {
        match object {
            Object::EndpointSlice(slice) => {
                self.set_slice(&slice.name.clone(), Some(slice), touched);
            }
            Object::Namespace(name) => {
                self.namespaces.insert(name);
            }
            Object::Node(node) => self.set_node(&node.name.clone(), Some(node), touched),
            Object::Pod(pod) => self.set_pod(&pod.name.clone(), Some(pod), touched),
            Object::Service(service) => {
                self.set_service(&service.name.clone(), Some(service), touched);
            }
        }
    }

    fn remove(&mut self, id: &ObjectId, touched: &mut Touched) {
        match id.kind {
            Kind::EndpointSlice => self.set_slice(&id.name, None, touched),
            Kind::Namespace => {
                self.namespaces.remove(&id.name);
            }
            Kind::Node => self.set_node(&id.name, None, touched),
            Kind::Pod => self.set_pod(&id.name, None, touched),
            Kind::Service => self.set_service(&id.name, None, touched),
        }
    }

    fn set_service(&mut self, name: &ObjectName, new: Option<Service>, touched: &mut Touched) {
        let id = ObjectId::service(name);
        let old = self.services.get(name);
        let claims = [old, new.as_ref()].map(|service| self.claims_of_service(service));
        self.claims
            .replace(&claims[0], &claims[1], &mut touched.owners);
        if new.as_ref().is_some_and(exposure::has_node_ports) {
            self.at_node.insert(id.clone());
        } else {
            self.at_node.remove(&id);
        }
        if let Some((key, value)) = old.and_then(|old| old.selector.first_key_value()) {
            self.selectors.remove(name, key, value);
        }
        if let Some((key, value)) = new.as_ref().and_then(|new| new.selector.first_key_value()) {
            self.selectors.insert(name, key, value);
        }
        replace(&mut self.services, name, new);
        touched.owners.insert(id);
    }

    fn set_slice(&mut self, name: &ObjectName, new: Option<EndpointSlice>, touched: &mut Touched) {
        let old = replace(&mut self.slices, name, new);
        let new = self.slices.get(name);
        // The new addresses first, so that one which stays is not taken for dead.
        for endpoint in new.iter().flat_map(|slice| &slice.endpoints) {
            self.alive.add(endpoint.address.into());
        }
        for endpoint in old.iter().flat_map(|slice| &slice.endpoints) {
            self.alive
                .remove(endpoint.address.into(), &mut touched.died);
        }
        if let (Some(old), Some(new)) = (&old, new) {
            touched.replaced.extend(replaced(old, new));
        }
        if let Some(service) = old.as_ref().and_then(owner) {
            self.slices_of.remove(&(service.clone(), name.name.clone()));
            touched.owners.insert(ObjectId::service(&service));
        }
        if let Some(service) = new.and_then(owner) {
            self.slices_of.insert((service.clone(), name.name.clone()));
            touched.owners.insert(ObjectId::service(&service));
        }
    }

    fn set_pod(&mut self, name: &ObjectName, new: Option<Pod>, touched: &mut Touched) {
        self.set_host_ports(name, new.as_ref(), touched);
        let old = replace(&mut self.pods, name, new);
        let new = self.pods.get(name);
        let options = &self.options;
        for address in new.iter().flat_map(|pod| addresses(pod, options)) {
            self.alive.add(address);
        }
        for address in old.iter().flat_map(|pod| addresses(pod, options)) {
            self.alive.remove(address, &mut touched.died);
        }
        for pod in old.iter() {
            for (key, value) in &pod.labels {
                self.labels.remove(name, key, value);
            }
        }
        for pod in new.iter() {
            for (key, value) in &pod.labels {
                self.labels.insert(name, key, value);
            }
        }
        for pod in old.iter().chain(new) {
            self.touch_selecting(pod, touched);
        }
    }

    /// Touches the Services whose selector matches a Pod.
    fn touch_selecting(&self, pod: &Pod, touched: &mut Touched) {
        if self.options.slices_only {
            return;
        }
        let namespace = &pod.name.namespace;
        let candidates = pod
            .labels
            .iter()
            .flat_map(|(key, value)| self.selectors.names(namespace, key, value));
        for name in candidates {
            let name = ObjectName {
                namespace: namespace.clone(),
                name: name.clone(),
            };
            let selector = self.services.get(&name).map(|service| &service.selector);
            if selector.is_some_and(|selector| selects(selector, &pod.labels)) {
                touched.owners.insert(ObjectId::service(&name));
            }
        }
    }
}

/// The endpoints of a slice that another Pod came to. The one before may be named beside it for a while.
fn replaced(old: &EndpointSlice, new: &EndpointSlice) -> BTreeSet<(Address, u16)> {
    let pods = |slice: &EndpointSlice| -> BTreeSet<(IpAddr, NonZeroU64)> {
        let endpoints = slice.endpoints.iter();
        endpoints
            .filter_map(|endpoint| Some((endpoint.address, endpoint.pod?)))
            .collect()
    };
    let (before, now) = (pods(old), pods(new));
    let had_another = |(address, _): &&(IpAddr, NonZeroU64)| {
        let pods = (*address, NonZeroU64::MIN)..=(*address, NonZeroU64::MAX);
        before.range(pods).next().is_some()
    };
    let arrived = now.difference(&before).filter(had_another);
    arrived
        .flat_map(|(address, _)| old.ports.iter().map(|port| ((*address).into(), port.port)))
        .collect()
}

/// The Service of a slice.
fn owner(slice: &EndpointSlice) -> Option<ObjectName> {
    slice.service.as_ref().map(|service| ObjectName {
        namespace: slice.name.namespace.clone(),
        name: service.clone(),
    })
}

/// The addresses that a Pod keeps alive. One in the host's network has the node's, which tell nothing of its own end; where
/// slices say which endpoints there are it keeps none.
fn addresses(pod: &Pod, options: &StoreOptions) -> impl Iterator<Item = Address> {
    let finished = matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
    let is_of_node = options.slices_only && pod.host_network;
    let addresses = if finished || is_of_node {
        &[][..]
    } else {
        &pod.addresses
    };
    addresses.iter().map(|address| (*address).into())
}

fn replace<T>(map: &mut BTreeMap<ObjectName, T>, name: &ObjectName, new: Option<T>) -> Option<T> {
    match new {
        Some(new) => map.insert(name.clone(), new),
        None => map.remove(name),
    }
}

#[cfg(test)]
mod tests;
