//! The ways that forwarded packets go in the lab, and what has to be there for them: a client outside the cluster, a node for
//! each contender, one that only routes, and one with backends; and the same wires with a switch in place of the node.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result};
use mesh_lab::{
    Agent, AgentOptions, Endpoint, Families, Lab, Node, Place, Pod, Port, Process, Service, Slice,
    eventually, packet::EmptyProgram,
};
use serde_json::{Value, json};

use super::{
    burst::{Burst, Sink, burst},
    tables::{Round, Way},
};
use crate::bench::{
    report::there_and_back,
    rival::contender::{Contender, Programs, kube_proxy},
};

const TARGET: u16 = 8080;
/// The node port of the Service whose backend is on another node.
const REMOTE: u16 = 30_080;
/// Those of the Services whose backends are on one contender's node each.
const LOCAL: u16 = 30_090;
const CONTENDERS: [Contender; 3] = [Contender::Agent, Contender::Iptables, Contender::Nftables];
/// What the client calls the node behind the second switch.
const BEHIND: Ipv4Addr = Ipv4Addr::new(172, 31, 9, 1);

/// A way from the client to a sink.
pub(super) struct Track {
    pub(super) way: Way,
    to: SocketAddr,
    sink: Sink,
}

/// Ways to a backend on another node, and to one on the same node.
#[derive(Default)]
pub(super) struct Tracks {
    pub(super) elsewhere: Vec<Track>,
    pub(super) here: Vec<Track>,
}

pub(super) struct World {
    lab: Lab,
    client: Place,
    /// The agent's.
    pub(super) node: Place,
    agent: Agent,
    proxies: Vec<Process>,
    /// Attached for as long as it is kept.
    program: EmptyProgram,
    pub(super) tracks: Tracks,
}

impl World {
    pub(super) fn build(agent: &Path) -> Result<Self> {
        let mut lab = Lab::new("forward")?;
        lab.use_control_plane()?;
        let outside = quiet(lab.node("outside", Families::V4)?)?;
        let far = quiet(lab.node("far", Families::V4)?)?;
        let plain = quiet(lab.node("plain", Families::V4)?)?;
        let hooked = quiet(lab.node("hooked", Families::V4)?)?;
        let nodes = CONTENDERS.map(|contender| quiet(lab.node(contender.name(), Families::V4)?));
        let [agents, iptables, nftables] = nodes;
        let nodes = [agents?, iptables?, nftables?];
        let mut tracks = Tracks::default();
        without(&mut lab, &outside, &mut tracks)?;
        routed(Way::Routed, &plain, (&outside, &far), &mut tracks)?;
        routed(Way::Hooked, &hooked, (&outside, &far), &mut tracks)?;
        let mut program = EmptyProgram::load()?;
        program.attach(&hooked.host(), "eth")?;
        program.attach(&hooked.host(), "veth")?;
        let objects = through(&far, &nodes, &mut tracks)?;
        let plane = lab.control_plane().context("the lab has a control plane")?;
        let kubeconfig = plane.kubeconfig().to_owned();
        plane.client()?.create_all(&objects)?;
        let control_plane = mesh_lab::control_plane_binary()?;
        let programs = Programs::new(agent.to_owned(), control_plane, lab.files())?;
        let files = (lab.files(), kubeconfig.as_path());
        let proxies = CONTENDERS.into_iter().zip(&nodes).skip(1);
        let proxies = proxies
            .map(|(contender, node)| kube_proxy(node, contender, &programs, files))
            .collect::<Result<_>>()?;
        let [node, ..] = nodes;
        Ok(Self {
            client: outside.host(),
            agent: node.agent_with(&AgentOptions::binary(agent))?,
            node: node.host(),
            lab,
            proxies,
            program,
            tracks,
        })
    }

    /// Until there is an answer on every way.
    pub(super) fn wait(&self) -> Result<()> {
        let Tracks { elsewhere, here } = &self.tracks;
        for track in elsewhere.iter().chain(here) {
            let title = format!("{} answers at {}", track.way.title(), track.to);
            eventually(&title, || self.burst(track).map(drop))?;
        }
        Ok(())
    }

    pub(super) fn burst(&self, track: &Track) -> Result<Burst> {
        burst(&self.client, track.to, &track.sink)
    }

    /// Every way forwards, then backwards.
    pub(super) fn round(&self, tracks: &[Track]) -> Result<Round> {
        let pairs = there_and_back(tracks, |track| self.burst(track))?;
        let ways = tracks.iter().map(|track| track.way);
        Ok(ways.zip(pairs).collect())
    }

    pub(super) fn close(self) -> Result<()> {
        drop(self.agent);
        drop((self.proxies, self.program));
        drop(self.tracks);
        self.lab.close()
    }
}

fn track(way: Way, to: (IpAddr, u16), sink: Place) -> Result<Track> {
    Ok(Track {
        way,
        to: to.into(),
        sink: Sink::open(sink, TARGET)?,
    })
}

/// Where the contenders have a node, packets to a backend elsewhere meet a switch alone; those to a backend there have
/// arrived. No node can be made after these two: they are not where the lab has put them.
fn without(lab: &mut Lab, outside: &Node, tracks: &mut Tracks) -> Result<()> {
    let host = lab.node("beside", Families::V4)?;
    let here = track(Way::Without, (own(&host)?, TARGET), host.host())?;
    tracks.here.push(here);
    let wire = lab.node("wire", Families::V4)?.host();
    let node = quiet(lab.node("behind", Families::V4)?)?;
    let (behind, pod, client) = (node.host(), node.pod("remote")?, own(outside)?);
    let netns = behind.netns().file_name().and_then(|name| name.to_str());
    let netns = netns.context("a network namespace has a name")?;
    for line in [
        "link add br1 type bridge mcast_snooping 0",
        "addr flush dev eth0",
        "link set eth0 master br1 up",
        &format!("link add wire0 type veth peer name eth9 netns {netns}"),
        "link set wire0 master br1 up",
        "link set br1 up",
    ] {
        wire.ip(line)?;
    }
    for line in [
        "link set eth0 down".to_owned(),
        format!("addr add {BEHIND}/32 dev eth9"),
        "link set eth9 up".to_owned(),
        format!("route add {client}/32 dev eth9 src {BEHIND}"),
    ] {
        behind.ip(&line)?;
    }
    let target = v4(&pod)?;
    let outside = outside.host();
    outside.ip(&format!("route add {BEHIND}/32 dev eth0"))?;
    outside.ip(&format!(
        "route add {target}/32 via {BEHIND} dev eth0 onlink"
    ))?;
    let elsewhere = track(Way::Without, (target, TARGET), pod.place())?;
    tracks.elsewhere.push(elsewhere);
    Ok(())
}

/// Through a node with nothing but routes.
fn routed(
    way: Way,
    node: &Node,
    (outside, far): (&Node, &Node),
    tracks: &mut Tracks,
) -> Result<()> {
    let remote = far.pod(&format!("remote-{}", node.name()))?;
    let local = node.pod("local")?;
    let (target, via) = (v4(&remote)?, own(node)?);
    outside
        .host()
        .ip(&format!("route add {target}/32 via {via}"))?;
    let elsewhere = track(way, (target, TARGET), remote.place())?;
    tracks.elsewhere.push(elsewhere);
    let here = track(way, (v4(&local)?, TARGET), local.place())?;
    tracks.here.push(here);
    Ok(())
}

/// Through node ports; the objects for them.
fn through(far: &Node, nodes: &[Node; 3], tracks: &mut Tracks) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for ((contender, node), number) in CONTENDERS.into_iter().zip(nodes).zip(0_u8..) {
        let way = Way::Contender(contender);
        let name = contender.name();
        // A sink each: a Service with one endpoint for each contender, and all of them on every node.
        let (remote, local) = (far.pod(&format!("remote-{name}"))?, node.pod("local")?);
        let number = u16::from(number);
        let ports = [REMOTE + number, LOCAL + number];
        for ((pod, port), place) in [&remote, &local]
            .into_iter()
            .zip(ports)
            .zip(["far", "near"])
        {
            let address = u8::try_from(port - REMOTE)? + 1;
            all.extend(objects(&format!("{place}-{name}"), address, port, v4(pod)?));
        }
        let ip = own(node)?;
        let elsewhere = track(way, (ip, ports[0]), remote.place())?;
        tracks.elsewhere.push(elsewhere);
        tracks.here.push(track(way, (ip, ports[1]), local.place())?);
    }
    Ok(all)
}

/// A Service behind a node port, and its one endpoint.
fn objects(name: &str, address: u8, node_port: u16, endpoint: IpAddr) -> Vec<Value> {
    let ports = [Port::udp("data", TARGET, TARGET)];
    let ip = Ipv4Addr::new(10, 96, 16, address).into();
    let mut service = Service::new(name, &[ip], &ports).json();
    service["spec"]["type"] = json!("NodePort");
    service["spec"]["ports"][0]["nodePort"] = json!(node_port);
    let slice = Slice::new(name, name, &ports, &[Endpoint::ready(endpoint)]);
    vec![service, slice.json()]
}

/// A node that sends no ICMP redirects: packets go out where they came in.
fn quiet(node: Node) -> Result<Node> {
    node.host().within(|| {
        for place in ["all", "default", "eth0"] {
            let path = format!("/proc/sys/net/ipv4/conf/{place}/send_redirects");
            fs::write(&path, "0").with_context(|| format!("cannot write {path}"))?;
        }
        Ok(())
    })?;
    Ok(node)
}

fn v4(pod: &Pod) -> Result<IpAddr> {
    let address = pod.address().v4.map(IpAddr::V4);
    address.context("the pod has no IPv4 address")
}

fn own(node: &Node) -> Result<IpAddr> {
    let address = node.address().v4.map(IpAddr::V4);
    address.context("the node has no IPv4 address")
}
