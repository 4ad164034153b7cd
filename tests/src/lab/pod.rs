//! A pod: a network namespace behind a veth of its node, routed, and a cgroup below the node's. A virtual machine is one
//! too, but behind a tap, and no cgroup of the node's holds its processes.

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;

use super::{
    address::{self, Address, Families},
    cable::{Cable, Carries, End},
    cgroup, ip, netns,
    node::{Inner, family_sysctls},
};
use crate::place::Place;

/// Pods' links have the indexes from here on, in the order of their numbers.
const FIRST_INDEX: u32 = 10_000;

/// The group of links that are taken away.
const ENDING: u32 = 99;

/// A pod of a node. Clones are the same pod.
#[derive(Clone, Debug)]
pub struct Pod {
    node: Arc<Inner>,
    name: String,
    number: u16,
    families: Families,
    joint: Joint,
}

/// What joins it to its node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Joint {
    Veth,
    Tap,
}

/// A virtual machine: the node has a tap of it, and its sockets are those of another kernel, as far as hooks of the node
/// go. Its interface goes when it is dropped.
#[derive(Debug)]
pub struct Machine {
    pod: Pod,
    _cable: Cable,
}

impl Machine {
    /// As a pod.
    #[must_use]
    pub const fn pod(&self) -> &Pod {
        &self.pod
    }
}

impl Pod {
    pub(super) fn new(
        node: &Arc<Inner>,
        name: &str,
        number: u16,
        families: Families,
        joint: Joint,
    ) -> Self {
        Self {
            node: Arc::clone(node),
            name: name.to_owned(),
            number,
            families,
            joint,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node.name
    }

    /// Its addresses.
    #[must_use]
    pub fn address(&self) -> Address {
        address::pod(self.node.index, self.number, self.families)
    }

    /// Where its processes run.
    #[must_use]
    pub fn place(&self) -> Place {
        let netns = netns::path(&self.netns());
        Place::new(&self.node.run, &self.name, &netns, &self.cgroup())
    }

    /// The same network namespace, but a cgroup beside the node's: no hook of an agent is called there. What is
    /// measured here is what it costs without one.
    pub fn bare_place(&self) -> Result<Place> {
        let bare = self
            .node
            .cgroup
            .with_file_name(format!("{}-bare", self.node.name));
        cgroup::make(&bare)?;
        Ok(Place::new(
            &self.node.run,
            &format!("{}-bare", self.name),
            &netns::path(&self.netns()),
            &bare,
        ))
    }

    pub(super) const fn number(&self) -> u16 {
        self.number
    }

    /// The name of its node's interface.
    #[must_use]
    pub fn link(&self) -> String {
        match self.joint {
            Joint::Veth => format!("veth{}", self.number),
            Joint::Tap => format!("tap{}", self.number),
        }
    }

    fn netns(&self) -> String {
        self.node
            .run
            .netns(&format!("{}.{}", self.node.name, self.name))
    }

    fn cgroup(&self) -> PathBuf {
        let node = &self.node;
        let all = match self.joint {
            Joint::Veth => node.cgroup.join("pods"),
            Joint::Tap => {
                let name = format!("{}-machines", node.name);
                node.cgroup.with_file_name(name)
            }
        };
        all.join(&self.name)
    }

    fn veth(&self) -> String {
        let (link, index) = (self.link(), FIRST_INDEX + u32::from(self.number));
        let netns = self.netns();
        format!("link add name {link} index {index} type veth peer name eth0 netns {netns}")
    }

    /// The node's side. The links of a node's pods all have the gateway's address, as common CNIs do it.
    fn node_links(&self) -> Vec<String> {
        let link = self.link();
        let own = address::node(self.node.index, self.node.families);
        let pod = self.address();
        let gateway = address::gateway(self.node.index);
        let mut lines = Vec::new();
        if pod.v4.is_some() {
            lines.push(format!("addr add {gateway}/32 dev {link}"));
        }
        if pod.v6.is_some() {
            lines.push(format!("addr add fe80::1/64 dev {link} nodad"));
        }
        lines.push(format!("link set {link} up"));
        if let (Some(v4), Some(source)) = (pod.v4, own.v4) {
            lines.push(format!("route add {v4}/32 dev {link} src {source}"));
        }
        if let (Some(v6), Some(source)) = (pod.v6, own.v6) {
            lines.push(format!("route add {v6}/128 dev {link} src {source}"));
        }
        lines
    }

    fn own_links(&self) -> Vec<String> {
        let pod = self.address();
        let gateway = address::gateway(self.node.index);
        let mut lines = vec!["link set lo up".to_owned(), "link set eth0 up".to_owned()];
        if let Some(v4) = pod.v4 {
            lines.push(format!("addr add {v4}/32 dev eth0"));
            lines.push(format!("route add {gateway}/32 dev eth0 scope link"));
            lines.push(format!("route add default via {gateway} dev eth0"));
        }
        if let Some(v6) = pod.v6 {
            lines.push(format!("addr add {v6}/128 dev eth0 nodad"));
            lines.push("route add ::/0 via fe80::1 dev eth0".to_owned());
        }
        lines
    }
}

/// Makes pods of one node: one batch for all namespaces, one for all of the node's links, one in each pod.
pub(super) fn make(node: &Inner, pods: &[Pod]) -> Result<()> {
    let namespaces: Vec<String> = pods
        .iter()
        .map(|pod| format!("netns add {}", pod.netns()))
        .collect();
    ip::batch(&namespaces)?;
    netns::within(&node.netns, || {
        let both = |pod: &Pod| std::iter::once(pod.veth()).chain(pod.node_links());
        let links: Vec<String> = pods.iter().flat_map(both).collect();
        ip::batch(&links)
    })?;
    pods.iter().try_for_each(make_inside)
}

fn make_inside(pod: &Pod) -> Result<()> {
    cgroup::make(&pod.cgroup())?;
    netns::within(&netns::path(&pod.netns()), || {
        family_sysctls(pod.families)?;
        ip::batch(&pod.own_links())
    })
}

/// Makes one that is a virtual machine of a node.
pub(super) fn make_machine(node: &Inner, pod: Pod) -> Result<Machine> {
    ip::batch(&[format!("netns add {}", pod.netns())])?;
    let (link, inside) = (pod.link(), netns::path(&pod.netns()));
    let ends = [(&node.netns, link.as_str()), (&inside, "eth0")];
    let ends = ends.map(|(netns, interface)| End { netns, interface });
    let cable = Cable::between(ends, Carries::Frames)?;
    netns::within(&node.netns, || ip::batch(&pod.node_links()))?;
    make_inside(&pod)?;
    Ok(Machine { pod, _cable: cable })
}

/// Takes pods of one node away: processes, cgroups, links and namespaces.
pub(super) fn end(node: &Inner, pods: &[Pod]) -> Result<()> {
    for pod in pods {
        cgroup::remove(&pod.cgroup())?;
    }
    // One by one each would wait until nobody uses it any more; a group goes at one stroke.
    let links = pods.iter();
    let links = links.map(|pod| format!("link set {} group {ENDING}", pod.link()));
    let mut lines: Vec<String> = links.collect();
    if !lines.is_empty() {
        lines.push(format!("link del group {ENDING}"));
    }
    netns::within(&node.netns, || ip::batch(&lines))?;
    pods.iter().try_for_each(|pod| netns::remove(&pod.netns()))
}
