//! Three nodes with a server and clients each: one with nothing attached, one with programs that only return, one with the
//! agent. How a client calls the server, and what a call takes.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use mesh_lab::{
    Agent, AgentOptions, Call, Endpoint, Families, Lab, Node, Place, Pod, Port, Process, Service,
    Slice, ensure_clean, eventually, packet::EmptyProgram,
};

use super::{
    cpu::{self, Softirq},
    kinds::{KINDS, Kind, Route},
};
use crate::bench::{
    programs::{Counts, Statistics},
    world::{SERVER_CPU, client_cpu},
};

pub(super) const SECONDS: f64 = 0.05;
/// So often each round goes every way forwards and backwards.
pub(super) const TURNS: usize = 5;
/// How often in a row the machine may stand still.
const STILL: u32 = 3;
const PORT: u16 = 80;
const TARGET: u16 = 8080;
const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), PORT);

/// How fast, and the CPU time that each took in nanoseconds.
#[derive(Clone, Copy)]
pub(super) struct Figure {
    pub(super) rate: f64,
    pub(super) cpu: f64,
}

/// The routes one after the other, nothing attached before each and after the last: what the machine does to the one it does to
/// the others at nearly the same time.
pub(super) type Walk = Vec<(Route, Figure)>;

/// A server and its clients on one node. Each route has a client of its own: one address calls the server one way alone, so
/// that no connection has the ports that another way's flow still remembers.
struct Pods {
    clients: Vec<Pod>,
    server: Pod,
    process: Process,
}

pub(super) struct World {
    lab: Lab,
    agent: Agent,
    /// The agent's.
    node: Place,
    bare: Pods,
    empty: Pods,
    program: EmptyProgram,
    attached: Pods,
    softirq: Softirq,
}

impl World {
    /// The nodes are made in the order of their names, beginning with another one in each round.
    pub(super) fn build(agent: &Path, round: usize) -> Result<Self> {
        let mut lab = Lab::new("pods")?;
        let softirq = Softirq::of(processors())?;
        let (names, mut nodes) = (["bare", "empty", "attached"], [const { None }; 3]);
        for at in (0..3).map(|step| (round + step) % 3) {
            let node = lab.node(names[at], Families::V4)?;
            nodes[at] = Some((Pods::new(&node)?, node));
        }
        let [Some((bare, _)), Some((empty, idle)), Some((attached, node))] = nodes else {
            bail!("a node was not made");
        };
        let (idle, mut program) = (idle.host(), EmptyProgram::load()?);
        program.attach(&idle, "veth")?;
        program.attach(&idle, "eth")?;
        write(&lab, &attached)?;
        let world = Self {
            agent: node.agent_with(&AgentOptions::binary(agent))?,
            node: node.host(),
            lab,
            bare,
            empty,
            program,
            attached,
            softirq,
        };
        world.wait()?;
        Ok(world)
    }

    /// From where, whom, and whose server that is.
    fn route(&self, route: Route) -> Result<(Place, SocketAddr, &Pods)> {
        let pods = match route {
            Route::Bare => &self.bare,
            Route::Empty => &self.empty,
            Route::Direct | Route::Packets | Route::Sockets => &self.attached,
        };
        let client = &pods.clients[route as usize];
        let place = match route {
            Route::Direct | Route::Packets => client.bare_place()?,
            Route::Bare | Route::Empty | Route::Sockets => client.place(),
        };
        let to = match route {
            Route::Packets | Route::Sockets => SERVICE,
            Route::Bare | Route::Empty | Route::Direct => pods.address()?,
        };
        Ok((place.on_cpu(client_cpu()), to, pods))
    }

    /// Until every route answers, and has done so for a while: what is new to caches and the kernel's tables is no longer.
    fn wait(&self) -> Result<()> {
        for route in Route::ALL {
            let (place, to, _) = self.route(route)?;
            eventually(&format!("{} answers", route.title()), || {
                ensure_clean(&place.call(&Call::connect(to).count(1).option("--timeout", 500))?)
            })?;
            for kind in &KINDS {
                self.figure(route, kind)?;
            }
        }
        Ok(())
    }

    /// Once more where the machine stood still for all of the time, as one with other guests may.
    fn figure(&self, route: Route, kind: &Kind) -> Result<Figure> {
        for _ in 0..STILL {
            if let Some(figure) = self.attempt(route, kind)? {
                return Ok(figure);
            }
        }
        bail!("{}: nobody was called in {SECONDS} s", route.title())
    }

    fn attempt(&self, route: Route, kind: &Kind) -> Result<Option<Figure>> {
        let (place, to, pods) = self.route(route)?;
        let taken = || {
            let server = cpu::process(pods.process.pid())?;
            anyhow::Ok(cpu::children()? + server + self.softirq.time()?)
        };
        let before = taken()?;
        let call = (kind.call)(to).option("--duration", SECONDS);
        let report = place.call(&call).with_context(|| route.title())?;
        if report.attempts == 0 {
            return Ok(None);
        }
        ensure_clean(&report).with_context(|| route.title())?;
        let taken = taken()? - before;
        let done = (kind.done)(&report);
        Ok(Some(Figure {
            rate: done / (report.elapsed_ns as f64 / 1e9),
            cpu: taken.as_nanos() as f64 / done,
        }))
    }

    /// Every route forwards, then backwards, and so on.
    pub(super) fn turns(&self, kind: &Kind) -> Result<Vec<[Walk; 2]>> {
        let turn = |_| {
            let back = Route::OTHERS.into_iter().rev();
            Ok([self.walk(kind, Route::OTHERS)?, self.walk(kind, back)?])
        };
        (0..TURNS).map(turn).collect()
    }

    fn walk(&self, kind: &Kind, others: impl IntoIterator<Item = Route>) -> Result<Walk> {
        let pairs = others.into_iter().flat_map(|route| [route, Route::Bare]);
        let figure = |route| Ok((route, self.figure(route, kind)?));
        [Route::Bare].into_iter().chain(pairs).map(figure).collect()
    }

    /// That each route is served by what it is meant to be, and what the programs take of it.
    pub(super) fn programs(&self, exchanges: u64) -> Result<String> {
        let statistics = Statistics::on()?;
        let mut words = Vec::new();
        for kind in &KINDS[..2] {
            for route in [Route::Direct, Route::Packets, Route::Sockets] {
                words.push(self.programs_of(kind, route, exchanges)?);
            }
        }
        drop(statistics);
        Ok(words.join("; "))
    }

    fn programs_of(&self, kind: &Kind, route: Route, exchanges: u64) -> Result<String> {
        let (place, to, _) = self.route(route)?;
        let sockets = Counts::read(&self.agent)?;
        let packets = Counts::at_interfaces(&self.node)?;
        ensure_clean(&place.call(&(kind.call)(to).count(exchanges))?)?;
        let connects = Counts::read(&self.agent)?.runs_since(&sockets, "connect4");
        ensure!(
            (connects > 0) == (route == Route::Sockets),
            "{}: connect4 ran {connects} times",
            route.title()
        );
        let words = Counts::at_interfaces(&self.node)?.words_since(&packets);
        Ok(format!("{}, {}: {words}", kind.title, route.title()))
    }

    pub(super) fn close(self) -> Result<()> {
        drop(self.agent);
        drop((self.program, self.bare, self.empty, self.attached));
        self.lab.close()
    }
}

impl Pods {
    fn new(node: &Node) -> Result<Self> {
        let server = node.pod("server")?;
        let place = server.place().on_cpu(SERVER_CPU);
        Ok(Self {
            process: place.serve("server", &[TARGET])?,
            clients: node.pods(&Route::ALL.map(|route| route.name().to_owned()))?,
            server,
        })
    }

    /// The server's own.
    fn address(&self) -> Result<SocketAddr> {
        let address = self.server.address().v4;
        Ok((address.context("the pod has no IPv4 address")?, TARGET).into())
    }
}

fn processors() -> Vec<usize> {
    let mut processors = vec![SERVER_CPU, client_cpu()];
    processors.dedup();
    processors
}

fn write(lab: &Lab, pods: &Pods) -> Result<()> {
    let ports = [Port::tcp("http", PORT, TARGET)];
    let endpoint = Endpoint::ready(pods.address()?.ip());
    let objects = [
        Service::new("web", &[SERVICE.ip()], &ports).json(),
        Slice::new("web", "web", &ports, &[endpoint]).json(),
    ];
    lab.source().write("web.json", &objects)
}
