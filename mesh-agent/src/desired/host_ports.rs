//! One Pod's host ports: each container port that the node serves is a service port with the Pod as its only backend.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{Address, FrontendKey, Port};

use super::{Access, Desired, DesiredPort, Family, Finding, PortId, Target, lost::Lost};
use crate::{
    model::{ContainerPort, ObjectId, ObjectName, Pod},
    store::{Exposure, Store},
};

/// What the kernel should hold for a Pod; nothing for one without host ports, and for one of another node.
pub(super) fn desired_pod(store: &Store, name: &ObjectName) -> (Desired, Vec<Finding>) {
    let mut desired = Desired::default();
    let mut lost = Lost::default();
    let owner = ObjectId::pod(name);
    let Some(pod) = store.pod(name) else {
        return (desired, Vec::new());
    };
    let mut taken = BTreeSet::new();
    for port in &pod.ports {
        let mut wins = |key: &FrontendKey| {
            lost.wins(store, &owner, key, Exposure::HostPort) && taken.insert(*key)
        };
        let mut frontends = store.host_frontends(pod, port);
        frontends.retain(|key| wins(key));
        for family in Family::ALL {
            add(&mut desired, &owner, pod, port, family, &frontends);
        }
    }
    (desired, lost.findings(&owner))
}

/// Two host ports of one container port are two frontends of one service port.
fn add(
    desired: &mut Desired,
    owner: &ObjectId,
    pod: &Pod,
    port: &ContainerPort,
    family: Family,
    frontends: &BTreeSet<FrontendKey>,
) {
    let of_family = |address: Address| Family::of(address) == family;
    let mut addresses = pod.addresses.iter().map(|address| (*address).into());
    let Some(address) = addresses.find(|address| of_family(*address)) else {
        return;
    };
    let own = frontends.iter().filter(|key| of_family(key.address()));
    let own: BTreeMap<FrontendKey, Access> = own.map(|key| (*key, access(key.address()))).collect();
    if own.is_empty() {
        return;
    }
    let id = PortId {
        owner: owner.clone(),
        family,
        protocol: port.protocol,
        port: port.port,
    };
    let target = Target {
        address,
        port: Port::new(port.port),
    };
    let entry = desired.ports.entry(id).or_insert_with(|| DesiredPort {
        ready: BTreeSet::from([target]),
        ..DesiredPort::default()
    });
    entry.frontends.extend(own);
}

fn access(address: Address) -> Access {
    if address.to_ip().is_loopback() {
        Access::Host
    } else {
        Access::External
    }
}
