//! A node: a network namespace on the switch and a cgroup that holds its host processes and its pods.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;

use super::{
    Run,
    address::{self, Address, Families},
    cgroup, ip, netns,
    pod::{self, Joint, Machine, Pod},
};
use crate::{
    agent::{Agent, AgentOptions},
    place::Place,
};

/// A node of a lab. Clones are the same node.
#[derive(Clone, Debug)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) run: Arc<Run>,
    pub(super) name: String,
    pub(super) index: u8,
    pub(super) families: Families,
    pub(super) netns: PathBuf,
    pub(super) cgroup: PathBuf,
    numbers: Mutex<Numbers>,
}

/// The numbers of pods. One that is free again is given out before one that never was.
#[derive(Debug, Default)]
struct Numbers {
    last: u16,
    free: BTreeSet<u16>,
}

impl Numbers {
    fn next(&mut self) -> u16 {
        self.free.pop_first().unwrap_or_else(|| {
            self.last += 1;
            self.last
        })
    }
}

impl Node {
    pub(super) fn make(
        run: &Arc<Run>,
        name: &str,
        index: u8,
        families: Families,
        others: &[Self],
    ) -> Result<Self> {
        let node = Self(Arc::new(Inner {
            run: Arc::clone(run),
            name: name.to_owned(),
            index,
            families,
            netns: netns::path(&run.netns(name)),
            cgroup: run.cgroup.join(name),
            numbers: Mutex::default(),
        }));
        cgroup::make(&node.0.cgroup.join("host"))?;
        node.plug_in()?;
        for other in others {
            node.route_to(other)?;
            other.route_to(&node)?;
        }
        Ok(node)
    }

    fn plug_in(&self) -> Result<()> {
        let name = self.0.run.netns(&self.0.name);
        let port = format!("port{}", self.0.index);
        // Of every second node the device came after a million others: its addresses are in `late_interfaces`.
        let number = match self.0.index % 2 {
            0 => "index 1000000",
            _ => "",
        };
        ip::batch(&[format!("netns add {name}")])?;
        netns::within(&netns::path(&self.0.run.netns("switch")), || {
            ip::batch(&[
                format!("link add name {port} type veth peer name eth0 {number} netns {name}"),
                format!("link set {port} master br0 up"),
            ])
        })?;
        netns::within(&self.0.netns, || {
            netns::sysctls(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
            family_sysctls(self.0.families)?;
            ip::batch(&self.own_links())
        })
    }

    fn own_links(&self) -> Vec<String> {
        let mut lines = vec!["link set lo up".to_owned()];
        let address = self.address();
        lines.extend(address.v4.map(|v4| format!("addr add {v4}/24 dev eth0")));
        lines.extend(
            address
                .v6
                .map(|v6| format!("addr add {v6}/64 dev eth0 nodad")),
        );
        lines.push("link set eth0 up".to_owned());
        lines
    }

    fn route_to(&self, other: &Self) -> Result<()> {
        let (v4_pods, v6_pods) = address::pod_ranges(other.0.index);
        let gateway = other.address();
        let own = self.address();
        let mut lines = Vec::new();
        if let (Some(via), Some(_)) = (gateway.v4, own.v4) {
            lines.push(format!("route add {v4_pods} via {via}"));
        }
        if let (Some(via), Some(_)) = (gateway.v6, own.v6) {
            lines.push(format!("route add {v6_pods} via {via}"));
        }
        netns::within(&self.0.netns, || ip::batch(&lines))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its own addresses.
    #[must_use]
    pub fn address(&self) -> Address {
        address::node(self.0.index, self.0.families)
    }

    /// Where its Pods' addresses come from, IPv4 and IPv6.
    pub(crate) fn pod_ranges(&self) -> (String, String) {
        address::pod_ranges(self.0.index)
    }

    /// The cgroup that holds its host processes and its pods: what an agent attaches to.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.0.cgroup
    }

    /// Where its agents pin.
    #[must_use]
    pub fn bpffs(&self) -> PathBuf {
        self.0.run.bpffs.join(&self.0.name)
    }

    /// The run directory of its agents.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.0.run.files.join(&self.0.name)
    }

    /// The directory of manifests that its agents read.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.0.run.files.join("manifests")
    }

    /// How its agents reach the lab's API server, where they get their objects from one.
    pub(crate) fn kubeconfig(&self) -> Option<&Path> {
        self.0.run.kubeconfig()
    }

    /// Where its host processes run.
    #[must_use]
    pub fn host(&self) -> Place {
        Place::new(
            &self.0.run,
            &self.0.name,
            &self.0.netns,
            &self.0.cgroup.join("host"),
        )
    }

    /// A pod of the node's families.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        self.pod_with(name, self.0.families)
    }

    /// A pod with some of the node's families.
    pub fn pod_with(&self, name: &str, families: Families) -> Result<Pod> {
        let mut pods = self.make_pods(&[name.to_owned()], families)?;
        pods.pop()
            .ok_or_else(|| anyhow::anyhow!("the pod {name} was not made"))
    }

    /// Many pods at once.
    pub fn pods(&self, names: &[String]) -> Result<Vec<Pod>> {
        self.make_pods(names, self.0.families)
    }

    fn make_pods(&self, names: &[String], families: Families) -> Result<Vec<Pod>> {
        let mut numbers = self.numbers();
        let pods = names
            .iter()
            .map(|name| Pod::new(&self.0, name, numbers.next(), families, Joint::Veth));
        let pods: Vec<Pod> = pods.collect();
        drop(numbers);
        pod::make(&self.0, &pods)?;
        Ok(pods)
    }

    /// A virtual machine of the node's families.
    pub fn machine(&self, name: &str) -> Result<Machine> {
        let number = self.numbers().next();
        let pod = Pod::new(&self.0, name, number, self.0.families, Joint::Tap);
        pod::make_machine(&self.0, pod)
    }

    /// Takes pods away, all at once, whatever runs in them. The next ones have their addresses, and the names and indexes
    /// of their links.
    pub fn end_pods(&self, pods: &[Pod]) -> Result<()> {
        pod::end(&self.0, pods)?;
        self.numbers().free.extend(pods.iter().map(Pod::number));
        Ok(())
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        let numbers = self.0.numbers.lock();
        numbers.unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an agent and waits until it is ready.
    pub fn agent(&self) -> Result<Agent> {
        self.agent_with(&AgentOptions::default())
    }

    /// Starts an agent of choice and waits until it is ready.
    pub fn agent_with(&self, options: &AgentOptions) -> Result<Agent> {
        let agent = self.start_agent(options)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// Starts an agent and does not wait.
    pub fn start_agent(&self, options: &AgentOptions) -> Result<Agent> {
        Agent::start(self, options)
    }
}

/// Addresses are usable at once, and a family that is not there is off.
pub(super) fn family_sysctls(families: Families) -> Result<()> {
    if !families.v6() {
        return netns::sysctls(&[
            ("ipv6/conf/all/disable_ipv6", "1"),
            ("ipv6/conf/default/disable_ipv6", "1"),
        ]);
    }
    netns::sysctls(&[
        ("ipv6/conf/all/accept_dad", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/eth0/accept_dad", "0"),
        ("ipv6/conf/all/accept_ra", "0"),
        ("ipv6/conf/eth0/accept_ra", "0"),
    ])
}
