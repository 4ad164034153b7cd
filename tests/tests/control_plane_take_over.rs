//! A node changes hands under traffic: the real kube-proxy serves it, an agent takes over, and the other way round. What
//! was begun before stays with who answered it, protocol by protocol, as docs/switch-from-kube-proxy.md says.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use mesh_lab::{
    Agent, AgentOptions, Call, Deployment, Families, KubeProxy, Lab, Load, Needs, Node, Place, Pod,
    ProxyMode, node_port, settle, test, traffic::Report, web_ports,
};

/// Connections of each kind.
const HELD: usize = 8;

/// A node that kube-proxy serves.
struct World {
    one: Node,
    web: Deployment,
    client: Pod,
    outside: Node,
}

impl World {
    fn new(lab: &mut Lab) -> Result<Self> {
        lab.use_control_plane()?;
        let (one, two) = (lab.node("one", Families::Dual)?, lab.node("two", Families::Dual)?);
        let outside = lab.node("outside", Families::Dual)?;
        let mut web = Deployment::new("web", &["10.96.0.10", "fd00:10:96::10"], &web_ports())?;
        web.set_node_ports();
        for (number, node) in (0..4).zip([&one, &two].into_iter().cycle()) {
            web.add(&node.pod(&format!("web-{number}"))?)?;
        }
        web.publish(&lab.source())?;
        Ok(Self { client: one.pod("client")?, one, web, outside })
    }

    /// Who asks whom: a pod and the node's own processes at the ClusterIPs, a host outside at the node ports.
    fn ways(&self, port: &str, number: u16) -> Result<Vec<(&'static str, Place, SocketAddr)>> {
        let mut ways = Vec::new();
        for to in [self.web.v4(port)?, self.web.v6(port)?] {
            ways.push(("pod", self.client.place(), to));
            ways.push(("host", self.one.host(), to));
        }
        for ip in self.one.address().all() {
            ways.push(("outside", self.outside.host(), node_port(ip, number)));
        }
        Ok(ways)
    }

    /// Everybody is served, and by all pods.
    fn settle(&self) -> Result<()> {
        for (_, place, to) in self.ways("http", 80)? {
            settle(&place, to, &self.web.ready())?;
        }
        Ok(())
    }

    /// Connections of every kind from everywhere, open from now on. The one that answers first is to answer always.
    fn hold(&self, shape: impl Fn(Call) -> Call) -> Result<Vec<Held>> {
        let mut all = Vec::new();
        for (who, place, to) in self.ways("dns", 80)? {
            let call = || shape(Call::hold(to).option("--connections", HELD));
            for (kind, call) in [
                ("tcp", call()),
                ("udp", call().udp()),
                ("udp-unconnected", call().unconnected()),
            ] {
                let load = place.load(&call)?.holding()?;
                all.push(Held { who, kind, to, load });
            }
        }
        Ok(all)
    }

    /// Starts an agent beside whoever else serves the node.
    fn agent(&self, options: AgentOptions) -> Result<Agent> {
        self.one.agent_with(&options)
    }
}

/// Connections that were begun before.
struct Held {
    who: &'static str,
    kind: &'static str,
    to: SocketAddr,
    load: Load,
}

/// Ends them; each must have been answered by one pod all the time, if it is of a kind that survives.
fn ensure_survived(held: Vec<Held>, survives: impl Fn(&str, &str) -> bool) -> Result<()> {
    let mut wrong = Vec::new();
    for Held { who, kind, to, load } in held {
        let report = load.stop()?;
        println!("{who} {kind} {to}: {:?} {:?}", report.backends, report.errors);
        if survives(who, kind) != survived(&report) {
            wrong.push(format!("{who} {kind} {to}: {report:?}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn survived(report: &Report) -> bool {
    report.is_clean() && report.attempts > u64::try_from(3 * HELD).unwrap_or(u64::MAX)
}

fn take_over(title: &str, mode: ProxyMode) -> Result<()> {
    test(title, Needs::ControlPlane, |lab| {
        let world = World::new(lab)?;
        let proxy = KubeProxy::beside(&world.one, mode)?;
        world.settle()?;
        let held = world.hold(|call| call.option("--interval", 100))?;
        let _agent = world.agent(AgentOptions::default())?;
        world.settle()?;
        proxy.stop()?;
        world.settle()?;
        std::thread::sleep(Duration::from_secs(2));
        ensure_survived(held, |_, _| true)
    })
}

#[test]
fn from_kube_proxy_in_nftables_mode() -> Result<()> {
    take_over("take-over-nftables", ProxyMode::Nftables)
}

#[test]
fn from_kube_proxy_in_iptables_mode() -> Result<()> {
    take_over("take-over-iptables", ProxyMode::Iptables)
}
