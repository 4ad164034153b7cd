//! A Service behind node ports on two nodes, each with an agent; a host that is no node of the cluster; and a client in a
//! pod whose sockets no hook sees. Both send what only the packet path can serve.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result, ensure};

use crate::{
    agent::{Agent, AgentOptions},
    deployment::NODE_PORTS,
    lab::{Families, Lab, Node},
    place::Place,
    scene::{Scene, settle},
};

/// A scene whose Service is asked for from outside the cluster.
#[derive(Debug)]
pub struct Outside {
    /// Where the pods are.
    pub scene: Scene,
    /// The other node's agent.
    pub far: Agent,
    /// The host outside.
    pub host: Node,
}

impl Outside {
    /// External IPs that `add_addresses` gives the Service.
    pub const EXTERNAL: [IpAddr; 2] = outside_addresses(7);
    /// Load balancers' addresses that `add_addresses` gives the Service.
    pub const BALANCED: [IpAddr; 2] = outside_addresses(8);

    /// A Service with so many pods, in turn on both nodes, in both families.
    pub fn new(lab: &mut Lab, pods: usize) -> Result<Self> {
        Self::with(lab, pods, &AgentOptions::default())
    }

    /// The same, with agents of choice.
    pub fn with(lab: &mut Lab, pods: usize, options: &AgentOptions) -> Result<Self> {
        let mut scene = Scene::with(lab, Families::Dual, pods, options)?;
        let host = lab.node("outside", Families::Dual)?;
        let far = scene.two.agent_with(options)?;
        scene.web.set_node_ports();
        scene.web.publish(&scene.source)?;
        Ok(Self { scene, far, host })
    }

    /// The same, and every address of it is served.
    pub fn settled(lab: &mut Lab, pods: usize) -> Result<Self> {
        let outside = Self::new(lab, pods)?;
        outside.settle()?;
        Ok(outside)
    }

    /// Waits until the ready pods, and they alone, answer at every address.
    pub fn settle(&self) -> Result<()> {
        let ready = self.scene.web.ready();
        for to in self.scene.all("http") {
            settle(&self.inside()?, to, &ready)?;
        }
        for to in self.node_ports(80) {
            settle(&self.client(), to, &ready)?;
        }
        Ok(())
    }

    /// Gives the Service addresses that are nobody's; the host's way to all of them is by this node.
    pub fn add_addresses(&mut self, by: &Node) -> Result<()> {
        let web = &mut self.scene.web;
        web.set_outside(&Self::EXTERNAL, &Self::BALANCED);
        web.publish(&self.scene.source)?;
        for to in Self::EXTERNAL.into_iter().chain(Self::BALANCED) {
            lead(&self.host, to, by)?;
        }
        Ok(())
    }

    /// The client outside.
    #[must_use]
    pub fn client(&self) -> Place {
        self.host.host()
    }

    /// The client's pod, but where no hook of the agent sees its sockets.
    pub fn inside(&self) -> Result<Place> {
        self.scene.client.bare_place()
    }

    /// The node ports of a Service's port at both nodes, in both families.
    #[must_use]
    pub fn node_ports(&self, port: u16) -> Vec<SocketAddr> {
        let nodes = [&self.scene.one, &self.scene.two].into_iter();
        let addresses = nodes.flat_map(|node| node.address().all());
        addresses.map(|ip| node_port(ip, port)).collect()
    }
}

/// The node port of a Service's port at an address.
#[must_use]
pub const fn node_port(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, NODE_PORTS + port)
}

const fn outside_addresses(last: u8) -> [IpAddr; 2] {
    let v4 = Ipv4Addr::new(198, 51, 100, last);
    let v6 = Ipv6Addr::new(0xfd00, 0x51, 0x100, 0, 0, 0, 0, last as u16);
    [IpAddr::V4(v4), IpAddr::V6(v6)]
}

/// From now on a host's way to an address is by this node.
pub fn lead(host: &Node, to: IpAddr, by: &Node) -> Result<()> {
    let mut gateways = by.address().all();
    let gateway = gateways.find(|ip| ip.is_ipv4() == to.is_ipv4());
    let gateway = gateway.with_context(|| format!("{} has no address like {to}", by.name()))?;
    let route = format!("route replace {to} via {gateway}");
    host.host().ip(&route).map(drop)
}

impl Place {
    /// Runs `ip` with these words; what it says on stdout.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let output = self.run(Path::new("ip"), arguments.split(' '))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ip {arguments}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
