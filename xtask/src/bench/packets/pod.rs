//! From a pod to a ClusterIP where no socket hook helps: request and response, short connections and a stream through the
//! agent's tc programs and their conntrack, against the same between two pods of a node where nothing is attached. What
//! passes the programs without a Service, and what the socket hooks have translated, are beside it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    Agent, AgentOptions, Call, Endpoint, Families, Lab, Node, Place, Pod, Port, Process, Service,
    Slice, ensure_clean, eventually, packet::EmptyProgram, traffic::Report,
};

use super::{
    cpu::{self, Softirq},
    tables::Sorted,
};
use crate::{
    bench::{
        programs::{Counts, Statistics},
        report::Document,
    },
    run,
};

pub(super) const ROUNDS: u32 = 10;
const SECONDS: f64 = 0.2;
const SERVER_CPU: usize = 0;
const PORT: u16 = 80;
const TARGET: u16 = 8080;
const SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));

/// Where a client calls from, and whom.
const WAYS: [&str; 5] = [
    "nothing attached",
    "pod to pod, empty programs",
    "pod to pod, programs attached",
    "ClusterIP, packet path",
    "ClusterIP, socket hooks",
];
/// What the others are compared with, and what is judged.
const BARE: usize = 0;
const EMPTY: usize = 1;
const DIRECT: usize = 2;
const PACKETS: usize = 3;

struct Kind {
    title: &'static str,
    call: fn(SocketAddr) -> Call,
    /// What was done: exchanges, or megabytes.
    done: fn(&Report) -> f64,
}

const KINDS: [Kind; 3] = [
    Kind {
        title: "request and response, 1 byte: a second",
        call: |to| Call::rr(to).option("--size", 1),
        done: |report| report.answered as f64,
    },
    Kind {
        title: "short connections, 1 byte: a second",
        call: |to| Call::crr(to).option("--size", 1),
        done: |report| report.answered as f64,
    },
    Kind {
        title: "stream: MB a second",
        call: |to| Call::stream(to).option("--size", 65_536),
        done: |report| report.bytes as f64 / 1e6,
    },
];

/// How fast, and the CPU time that each took in nanoseconds.
#[derive(Clone, Copy)]
struct Figure {
    rate: f64,
    cpu: f64,
}

/// There and back, in one round: each of the ways.
type Round = Vec<[Figure; 2]>;

/// A server and its clients on one node. Each way has a client of its own: one address calls the server one way alone, so
/// that no connection has the ports that another way's flow still remembers.
struct Pods {
    clients: Vec<Pod>,
    server: Pod,
    process: Process,
}

struct World {
    lab: Lab,
    agent: Agent,
    /// The agent's.
    node: Place,
    bare: Pods,
    /// Where each hook of the agent's has a program that only returns: what the hooks cost by themselves.
    empty: Pods,
    program: EmptyProgram,
    attached: Pods,
    softirq: Softirq,
}

pub(super) fn measure(agent: &Path, rounds: u32, document: &mut Document) -> Result<()> {
    run::say("from a pod to a ClusterIP");
    let mut lab = Lab::new("pods")?;
    let nodes = [
        lab.node("bare", Families::V4)?,
        lab.node("attached", Families::V4)?,
        lab.node("empty", Families::V4)?,
    ];
    let both = [pods(&nodes[0])?, pods(&nodes[1])?];
    let alike = alike(&both)?;
    let [bare, attached] = both;
    let empty = pods(&nodes[2])?;
    let mut program = EmptyProgram::load()?;
    program.attach(&nodes[2].host(), "veth")?;
    program.attach(&nodes[2].host(), "eth")?;
    write(&lab, &attached.server)?;
    let world = World {
        agent: nodes[1].agent_with(&AgentOptions::binary(agent))?,
        node: nodes[1].host(),
        lab,
        bare,
        empty,
        program,
        attached,
        softirq: Softirq::of(processors())?,
    };
    world.wait()?;
    let mut rows = (vec![head()], vec![head()]);
    for kind in &KINDS {
        let figures = (0..rounds)
            .map(|_| world.round(kind))
            .collect::<Result<Vec<_>>>()?;
        rows.0.push(row(kind.title, &figures, |it| it.rate));
        rows.1.push(row(kind.title, &figures, |it| 1e9 / it.cpu));
    }
    document.table("pod to ClusterIP on one node", &rows.0);
    document.table("the same by a second of CPU time", &rows.1);
    document.note(&format!(
        "TCP, IPv4, client on processor {}, server on processor {SERVER_CPU}, {SECONDS} s each, every way forwards and \
         backwards in each round. Ratios are to nothing attached of the same round, with the least and the greatest; the \
         last column, which should be 1, is nothing attached there by back. By CPU time: that of client, server and both \
         ksoftirqd, which others on the machine do not lengthen. The two nodes before the agent came, one by the other, \
         requests by CPU time: {alike}. {}",
        cpu::sender(),
        world.programs()?
    ));
    drop(world.agent);
    drop((world.program, world.bare, world.empty, world.attached));
    world.lab.close()
}

fn processors() -> Vec<usize> {
    let mut processors = vec![SERVER_CPU, cpu::sender()];
    processors.dedup();
    processors
}

fn pods(node: &Node) -> Result<Pods> {
    let server = node.pod("server")?;
    Ok(Pods {
        process: server
            .place()
            .on_cpu(SERVER_CPU)
            .serve("server", &[TARGET])?,
        clients: node.pods(&WAYS.map(|way| way.replace([' ', ','], "-")))?,
        server,
    })
}

/// Before anything is attached anywhere.
fn alike(both: &[Pods; 2]) -> Result<String> {
    let softirq = Softirq::of(processors())?;
    let cost = |pods: &Pods| {
        let place = on_cpu(pods.clients[BARE].place());
        let figure = figure(&place, pods.direct()?, &KINDS[0], pods, &softirq)?;
        anyhow::Ok(figure.cpu)
    };
    let mut ratios = Vec::new();
    for _ in 0..6 {
        let [one, other] = both;
        let (there, back) = ([cost(one)?, cost(other)?], [cost(other)?, cost(one)?]);
        ratios.push((there[0] + back[1]) / (there[1] + back[0]));
    }
    let ratios = Sorted::of(ratios.into_iter());
    Ok(format!("{} ({})", ratios.median_of(3), ratios.range(3)))
}

fn on_cpu(place: Place) -> Place {
    place.on_cpu(cpu::sender())
}

fn write(lab: &Lab, server: &Pod) -> Result<()> {
    let ports = [Port::tcp("http", PORT, TARGET)];
    let address = server.address().v4.map(IpAddr::V4);
    let endpoint = Endpoint::ready(address.context("the pod has no IPv4 address")?);
    let objects = [
        Service::new("web", &[SERVICE], &ports).json(),
        Slice::new("web", "web", &ports, &[endpoint]).json(),
    ];
    lab.source().write("web.json", &objects)
}

impl Pods {
    fn direct(&self) -> Result<SocketAddr> {
        let address = self.server.address().v4;
        Ok((address.context("the pod has no IPv4 address")?, TARGET).into())
    }
}

fn figure(
    from: &Place,
    to: SocketAddr,
    kind: &Kind,
    pods: &Pods,
    softirq: &Softirq,
) -> Result<Figure> {
    let taken =
        || anyhow::Ok(cpu::children()? + cpu::process(pods.process.pid())? + softirq.time()?);
    let before = taken()?;
    let report = from.call(&(kind.call)(to).option("--duration", SECONDS))?;
    ensure_clean(&report)?;
    let taken = taken()? - before;
    let done = (kind.done)(&report);
    Ok(Figure {
        rate: done / (report.elapsed_ns as f64 / 1e9),
        cpu: taken.as_nanos() as f64 / done,
    })
}

impl World {
    /// The place and the address of each of `WAYS`.
    fn way(&self, way: usize) -> Result<(Place, SocketAddr, &Pods)> {
        let service = SocketAddr::new(SERVICE, PORT);
        let pods = match way {
            BARE => &self.bare,
            EMPTY => &self.empty,
            _ => &self.attached,
        };
        let client = &pods.clients[way];
        let (place, to) = match way {
            BARE | EMPTY => (client.place(), pods.direct()?),
            DIRECT => (client.bare_place()?, pods.direct()?),
            PACKETS => (client.bare_place()?, service),
            _ => (client.place(), service),
        };
        Ok((on_cpu(place), to, pods))
    }

    fn wait(&self) -> Result<()> {
        for (way, title) in WAYS.iter().enumerate() {
            let (place, to, _) = self.way(way)?;
            eventually(&format!("{title} answers"), || {
                ensure_clean(&place.call(&Call::connect(to).count(1).option("--timeout", 500))?)
            })?;
        }
        Ok(())
    }

    fn figure(&self, way: usize, kind: &Kind) -> Result<Figure> {
        let (place, to, pods) = self.way(way)?;
        figure(&place, to, kind, pods, &self.softirq).with_context(|| WAYS[way])
    }

    fn round(&self, kind: &Kind) -> Result<Round> {
        let there = (0..WAYS.len()).map(|way| self.figure(way, kind));
        let there = there.collect::<Result<Vec<_>>>()?;
        let back = (0..WAYS.len()).rev().map(|way| self.figure(way, kind));
        let back = back.collect::<Result<Vec<_>>>()?;
        let pairs = there.into_iter().zip(back.into_iter().rev());
        Ok(pairs.map(|(there, back)| [there, back]).collect())
    }

    /// That each way is served by what it is meant to be, and what the programs take of it.
    fn programs(&self) -> Result<String> {
        let statistics = Statistics::on()?;
        let mut words = Vec::new();
        for way in [PACKETS, WAYS.len() - 1] {
            let read = || {
                anyhow::Ok((
                    Counts::read(&self.agent)?,
                    Counts::at_interfaces(&self.node)?,
                ))
            };
            let (sockets, packets) = read()?;
            let (place, to, _) = self.way(way)?;
            let report = place.call(&Call::rr(to).option("--size", 1).count(5000))?;
            ensure_clean(&report)?;
            let after = read()?;
            let connects = after.0.runs_since(&sockets, "connect4");
            ensure!(
                (connects > 0) == (way != PACKETS),
                "{}: connect4 ran {connects} times",
                WAYS[way]
            );
            words.push(format!("{}: {}", WAYS[way], after.1.words_since(&packets)));
        }
        drop(statistics);
        Ok(format!(
            "The programs in 5000 requests each, by BPF_ENABLE_STATS: {}.",
            words.join("; ")
        ))
    }
}

fn head() -> Vec<String> {
    let mut head = vec![String::new()];
    head.extend(WAYS.map(str::to_owned));
    for way in &WAYS[1..] {
        head.push(format!("{way} / nothing"));
    }
    head.push("nothing: there / back".to_owned());
    head
}

/// Greater is better.
fn row(title: &str, rounds: &[Round], of: fn(&Figure) -> f64) -> Vec<String> {
    let middle = |round: &Round, way: usize| {
        let [there, back] = round[way].each_ref().map(of);
        f64::midpoint(there, back)
    };
    let mut cells = vec![title.to_owned()];
    for way in 0..WAYS.len() {
        let figures = rounds.iter().map(|round| middle(round, way));
        cells.push(Sorted::of(figures).median_of(0));
    }
    for way in 1..WAYS.len() {
        let ratios = rounds
            .iter()
            .map(|round| middle(round, way) / middle(round, BARE));
        let ratios = Sorted::of(ratios);
        cells.push(format!("{} ({})", ratios.median_of(3), ratios.range(3)));
    }
    let turns = rounds.iter().map(|round| {
        let [there, back] = round[BARE].each_ref().map(of);
        there / back
    });
    cells.push(Sorted::of(turns).range(3));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_rates_and_their_ratios() {
        let figure = |rate| [Figure { rate, cpu: 1.0 }; 2];
        let round = [100.0, 99.0, 98.0, 95.0, 100.0].map(figure).to_vec();
        let cells = row("x", &[round], |it| it.rate);
        assert_eq!(cells.len(), head().len());
        assert_eq!(cells[4], "95");
        assert_eq!(cells[8], "0.950 (0.950 - 0.950)");
        assert_eq!(cells[10], "1.000 - 1.000");
    }
}
