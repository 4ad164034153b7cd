//! A node changes hands under traffic: the real kube-proxy serves it, an agent takes over, and the other way round. What
//! was begun before stays with who answered it, protocol by protocol, as docs/switch-from-kube-proxy.md says.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use mesh_lab::{
    Agent, AgentOptions, Call, Condition, Deployment, Families, KubeProxy, Lab, Load, Needs, Node,
    Place, Pod, ProxyMode, node_port, settle, test,
    traffic::{Failure, Report},
    web_ports,
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
        let (one, two) = (
            lab.node("one", Families::Dual)?,
            lab.node("two", Families::Dual)?,
        );
        let outside = lab.node("outside", Families::Dual)?;
        let mut web = Deployment::new("web", &["10.96.0.10", "fd00:10:96::10"], &web_ports())?;
        web.set_node_ports();
        for (number, node) in (0..4).zip([&one, &two].into_iter().cycle()) {
            web.add(&node.pod(&format!("web-{number}"))?)?;
        }
        web.publish(&lab.source())?;
        // What goes to a ClusterIP is routed before it is translated.
        for via in outside.address().all() {
            let route = format!("route add default via {via}");
            let family = if via.is_ipv4() { "-4" } else { "-6" };
            one.host().ip(&format!("{family} {route}"))?;
        }
        Ok(Self {
            client: one.pod("client")?,
            one,
            web,
            outside,
        })
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
                all.push(Held {
                    who,
                    kind,
                    to,
                    load,
                });
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

/// What became of connections that were begun before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// All of them were answered all the time.
    Stays,
    /// As above, but getpeername shows the backend.
    Unmasked,
    /// Most were answered by another one, and were ended by the client for that.
    Moves,
    /// None was answered any more.
    Waits,
    /// All of them were ended: reset.
    Resets,
}

/// Ends them and compares.
fn ensure_ends(held: Vec<Held>, expected: impl Fn(&str, &str) -> End) -> Result<()> {
    let mut wrong = Vec::new();
    for Held {
        who,
        kind,
        to,
        load,
    } in held
    {
        let report = load.stop()?;
        let (found, expected) = (end(&report), expected(who, kind));
        println!("{who} {kind} {to}: {found:?} {:?}", report.errors);
        if found != Some(expected) {
            wrong.push(format!("{who} {kind} {to}: not {expected:?}: {report:?}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn end(report: &Report) -> Option<End> {
    let held = u64::try_from(HELD).ok()?;
    let failed = |how| report.failed(how);
    let all: u64 = report.errors.values().sum();
    if report.is_clean() {
        return (report.attempts >= 3 * held).then_some(End::Stays);
    }
    if all == failed(Failure::Peer) {
        return Some(End::Unmasked);
    }
    let closed = failed(Failure::Reset) + failed(Failure::Closed) + failed(Failure::Other);
    if all == held && all == closed {
        return Some(End::Resets);
    }
    if all == held && all == failed(Failure::Timeout) {
        return Some(End::Waits);
    }
    // A datagram that is under way may be lost.
    let moved = failed(Failure::Misdirected);
    let lost = failed(Failure::Timeout);
    (moved > 0 && moved + lost == all && lost <= held / 4).then_some(End::Moves)
}

/// With kube-proxy's help no more, and in time for every connection to ask again.
fn replace(world: &World, proxy: KubeProxy, options: AgentOptions) -> Result<Agent> {
    let agent = world.agent(options)?;
    world.settle()?;
    proxy.stop()?;
    world.settle()?;
    std::thread::sleep(Duration::from_secs(2));
    Ok(agent)
}

fn take_over(title: &str, mode: ProxyMode) -> Result<()> {
    test(title, Needs::ControlPlane, |lab| {
        let world = World::new(lab)?;
        let proxy = KubeProxy::beside(&world.one, mode)?;
        world.settle()?;
        let held = world.hold(|call| call.option("--interval", 100))?;
        let _agent = replace(&world, proxy, AgentOptions::default())?;
        ensure_ends(held, |_, _| End::Stays)
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

/// kube-proxy's rules gave away source ports by chance, and answers come to them: they stand for nobody else meanwhile.
#[test]
fn source_ports_that_are_given_away() -> Result<()> {
    const MANY: u64 = 1500;
    test("take-over-ports", Needs::ControlPlane, |lab| {
        let world = World::new(lab)?;
        let _proxy = KubeProxy::beside(&world.one, ProxyMode::Nftables)?;
        world.settle()?;
        let from = world.outside.host();
        let addresses = world.one.address().all();
        let ways: Vec<SocketAddr> = addresses.map(|ip| node_port(ip, 80)).collect();
        let mut held = Vec::new();
        for to in &ways {
            let call = Call::hold(*to).option("--connections", MANY);
            held.push(from.load(&call.option("--interval", 1000))?.holding()?);
        }
        let _agent = world.agent(AgentOptions::default())?;
        world.settle()?;
        for to in ways {
            let report = from.call(&Call::connect(to).count(MANY))?;
            ensure!(report.is_clean(), "begun after: {report:?}");
        }
        for load in held {
            let report = load.stop()?;
            ensure!(report.is_clean(), "begun before: {report:?}");
        }
        Ok(())
    })
}

/// A datagram is answered by another pod at once, and none is lost. What no hook sees stays: connected sockets of the node's
/// own processes.
#[test]
fn datagrams_at_once() -> Result<()> {
    test("take-over-at-once", Needs::ControlPlane, |lab| {
        let world = World::new(lab)?;
        let proxy = KubeProxy::beside(&world.one, ProxyMode::Nftables)?;
        world.settle()?;
        let held = world.hold(|call| call.option("--interval", 100))?;
        let moving = world.hold(|call| call.option("--interval", 100).flag("--may-move"))?;
        let options = AgentOptions::default().flag("--take-over");
        let _agent = replace(&world, proxy, options)?;
        ensure_ends(moving, |_, _| End::Stays)?;
        ensure_ends(held, |who, kind| match (who, kind) {
            (_, "tcp") | ("host", "udp") => End::Stays,
            _ => End::Moves,
        })
    })
}

/// A pod that is gone answers nobody: its flows are not left to rules that lead there.
#[test]
fn datagrams_to_a_pod_that_is_gone() -> Result<()> {
    test("take-over-gone", Needs::ControlPlane, |lab| {
        let mut world = World::new(lab)?;
        let proxy = KubeProxy::beside(&world.one, ProxyMode::Iptables)?;
        world.settle()?;
        let held = world.hold(|call| often(call).flag("--may-move"))?;
        let _agent = replace(&world, proxy, AgentOptions::default())?;
        for pod in ["web-0", "web-1", "web-2"] {
            world.web.set(pod, Condition::Gone)?;
        }
        world.web.publish(&lab.source())?;
        world.settle()?;
        for pod in ["web-0", "web-1", "web-2"] {
            world.web.kill(pod)?;
        }
        std::thread::sleep(Duration::from_secs(1));
        let seen = |held: &Held| held.kind != "tcp" && (held.who, held.kind) != ("host", "udp");
        let held = held.into_iter().filter(seen).collect();
        ensure_ends(held, |_, _| End::Stays)
    })
}

/// How the test tells `hold` to ask: often, and not to wait long for what is lost.
fn often(call: Call) -> Call {
    call.option("--interval", 100).option("--timeout", 1000)
}

/// What kube-proxy left is shown and removed, not before it is gone; established connections go on.
fn leftovers(title: &str, mode: ProxyMode, lines: &[&str]) -> Result<()> {
    test(title, Needs::ControlPlane, |lab| {
        let world = World::new(lab)?;
        let proxy = KubeProxy::beside(&world.one, mode)?;
        world.settle()?;
        let held = world.hold(often)?;
        let agent = replace_but_keep(&world, proxy)?;
        let clean = |flags: &[&str]| {
            let words = ["cleanup", "--kube-proxy-rules"];
            let words: Vec<&str> = words.into_iter().chain(flags.iter().copied()).collect();
            Ok::<_, anyhow::Error>(agent.cli(&words)?.ok()?.stdout)
        };
        let shown = single_spaces(&clean(&["--dry-run"])?);
        for line in lines {
            ensure!(shown.contains(line), "{line}: {shown}");
        }
        ensure!(shown.starts_with("WOULD REMOVE"), "{shown}");
        let removed = clean(&[])?;
        ensure!(removed.starts_with("REMOVED"), "{removed}");
        let left = rules(&world.one)?;
        ensure!(
            !left.contains("KUBE-S") && !left.contains("table ip kube-proxy"),
            "{left}"
        );
        let kept = clean(&[])?;
        ensure!(
            kept.lines().count() == 2 && kept.contains("kept "),
            "{kept}"
        );
        world.settle()?;
        std::thread::sleep(Duration::from_secs(2));
        ensure_ends(held, |_, _| End::Stays)
    })
}

/// An agent in kube-proxy's place, whose rules are still there.
fn replace_but_keep(world: &World, proxy: KubeProxy) -> Result<Agent> {
    let agent = world.agent(AgentOptions::default())?;
    let refused = agent.cli(&["cleanup", "--kube-proxy-rules"])?;
    ensure!(refused.stderr.contains("MESH070"), "{refused:?}");
    proxy.stop()?;
    world.settle()?;
    Ok(agent)
}

fn single_spaces(table: &str) -> String {
    let words: Vec<&str> = table.split_whitespace().collect();
    words.join(" ")
}

/// Those of nftables, and those that only legacy iptables shows.
fn rules(node: &Node) -> Result<String> {
    const ALL: &str = "nft list ruleset; iptables-legacy-save; ip6tables-legacy-save";
    let output = node.host().run("sh".as_ref(), ["-ec", ALL])?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn leftovers_of_nftables_mode() -> Result<()> {
    let lines = ["ip kube-proxy", "ip6 kube-proxy", "mesh-agent-established"];
    leftovers("leftovers-nftables", ProxyMode::Nftables, &lines)
}

#[test]
fn leftovers_of_iptables_mode() -> Result<()> {
    let lines = ["ip nat: ", "ip6 nat: ", "ip filter: "];
    leftovers("leftovers-iptables", ProxyMode::Iptables, &lines)
}

/// Rules that have no netlink, and what else would translate goes with them.
#[test]
fn leftovers_of_legacy_iptables() -> Result<()> {
    let lines = [
        "iptables-legacy ip nat: ",
        "iptables-legacy ip6 nat: ",
        "mesh-agent-established",
    ];
    leftovers("leftovers-legacy", ProxyMode::LegacyIptables, &lines)
}

/// Nobody here has ipvs. Its interface tells that it was here, and what is to be done is said; nothing else is.
#[test]
fn leftovers_of_ipvs_mode_are_named() -> Result<()> {
    test("leftovers-ipvs", Needs::Files, |lab| {
        let node = lab.node("one", Families::V4)?;
        node.host().ip("link add kube-ipvs0 type bridge")?;
        for _ in 0..2 {
            let shown = node.cli(&["cleanup", "--kube-proxy-rules"])?.ok()?.stdout;
            let shown = single_spaces(&shown);
            ensure!(shown.contains("not removed kube-ipvs0"), "{shown}");
            ensure!(shown.contains("ipvsadm --clear"), "{shown}");
        }
        Ok(())
    })
}

/// Who is silent for 30 s is the agent's after that, without kube-proxy and without its rules. Connected sockets of the
/// node's own processes are seen by no hook: there is nobody for them then.
#[test]
fn datagrams_after_silence() -> Result<()> {
    test("take-over-silence", Needs::ControlPlane, |lab| {
        let world = World::new(lab)?;
        let proxy = KubeProxy::beside(&world.one, ProxyMode::Nftables)?;
        world.settle()?;
        let silent = |call: Call| call.option("--interval", 35_000).flag("--may-move");
        let held = world.hold(|call| silent(call).option("--timeout", 1000))?;
        let agent = replace_but_keep(&world, proxy)?;
        agent.cli(&["cleanup", "--kube-proxy-rules"])?.ok()?;
        std::thread::sleep(Duration::from_secs(40));
        ensure_ends(held, |who, kind| match (who, kind) {
            ("host", "udp") => End::Waits,
            _ => End::Stays,
        })
    })
}

/// kube-proxy serves the node again, and the agent goes. What a socket translated is connected to the pod itself; what
/// packets are translated for is begun anew.
fn back(title: &str, mode: ProxyMode) -> Result<()> {
    test(title, Needs::ControlPlane, |lab| {
        let world = World::new(lab)?;
        let _proxy = KubeProxy::beside(&world.one, mode)?;
        let mut agent = world.agent(AgentOptions::default())?;
        world.settle()?;
        let held = world.hold(often)?;
        agent.terminate()?;
        world.one.cli(&["cleanup"])?.ok()?;
        world.settle()?;
        std::thread::sleep(Duration::from_secs(2));
        ensure_ends(held, |who, kind| match (who, kind) {
            ("outside", "tcp") => End::Resets,
            ("outside", _) | (_, "udp-unconnected") => End::Moves,
            _ => End::Unmasked,
        })
    })
}

#[test]
fn back_to_nftables_mode() -> Result<()> {
    back("back-nftables", ProxyMode::Nftables)
}

#[test]
fn back_to_iptables_mode() -> Result<()> {
    back("back-iptables", ProxyMode::Iptables)
}
