//! What a packet costs at a hook: each kind of packet through its program, call by call (BPF_PROG_TEST_RUN, repeat 1),
//! less what a program without instructions costs with the same packet.

use anyhow::{Context, Result, anyhow, ensure};
use mesh_common::Port;
use mesh_ebpf::{
    PacketHook, PacketVerdict,
    sim::{
        Sim, SimPacket,
        wire::{self, Datagram, Error, tcp},
    },
};
use mesh_lab::packet::{EmptyProgram, PacketPrograms, PacketWorld};
use nix::{
    sched::{CloneFlags, unshare},
    time::{ClockId, clock_gettime},
};

use super::speed::{Block, TOLERANCE, Yardstick, at_full_speed, limit};
use crate::bench::report::Document;

/// Numbers of Services that are compared.
const SERVICES: [u32; 2] = [1, 10_000];

/// In all 100,000 calls of each kind.
pub(super) const ROUNDS: u32 = 10;
const CALLS: u64 = 10_000;

/// Calls within some milliseconds: so long the machine has one speed as a rule.
const BLOCK: usize = 500;

/// At each so many calls the machine's speed is looked at.
const LOOK: usize = 5;

const _: () = assert!((CALLS as usize).is_multiple_of(BLOCK) && LOOK <= BLOCK);

/// Of `flows`: what it has by default, or about so.
const FLOW_LINES: u32 = 10_640;

type Way = [PacketHook; 2];
const POD: Way = [PacketHook::FromPod, PacketHook::ToPod];
const DEVICE: Way = [PacketHook::FromDevice, PacketHook::ToDevice];

/// A kind of packet.
struct Case {
    name: String,
    hook: PacketHook,
    frames: Frames,
}

enum Frames {
    /// The same each time.
    One(Vec<u8>),
    /// The first packet of a flow, each time of another client.
    New(NewFlow),
}

/// New flows, before their first hook or before their second.
#[derive(Clone, Copy)]
struct NewFlow {
    v6: bool,
    way: Way,
    is_second: bool,
    /// The table has as many half-open ones as it takes, and each pushes one out.
    is_flood: bool,
}

/// More flows than the table has half-open ones, as many times what is measured.
const FLOOD: u64 = 5;

pub(super) fn measure(object: &[u8], rounds: u32, document: &mut Document) -> Result<()> {
    let measured = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // No socket of the host stands in the way of a source.
            unshare(CloneFlags::CLONE_NEWNET).context("a network namespace")?;
            measure_here(object, rounds, CALLS)
        });
        thread.join()
    });
    let (rows, limit) =
        measured.map_err(|_| anyhow!("the thread of the measurement broke down"))??;
    document.table("nanoseconds per packet over an empty program", &rows);
    document.note(&format!(
        "Each round: {CALLS} calls of each kind in turn, each call timed by itself by the kernel (BPF_PROG_TEST_RUN, \
         repeat 1), and as many of a program that has only its return, with the same packets; the difference of the \
         medians. The maps have their usual sizes. New flows begin with a table that has no half-open ones, but for a flood: there \
         each pushes an older one out.\n\nOf blocks of {BLOCK} calls those are at full speed among which a fixed piece of work (the \
         system call of the program that has only its return, in the median of each block) took at most {limit} ns, {TOLERANCE} % \
         more than at its fastest; the figure is the median of what those blocks cost. It says what the machine's clock and its \
         other guests do to the same work, not what they do to memory; and a new flow finds a fuller table in a later block of a \
         round."
    ));
    Ok(())
}

/// The table, and what the fixed work takes at full speed.
fn measure_here(object: &[u8], rounds: u32, count: u64) -> Result<(Vec<Vec<String>>, i64)> {
    let empty = EmptyProgram::load()?;
    let mut measured = Vec::new();
    for services in SERVICES {
        crate::run::say(&format!("{services} Services"));
        let world = PacketWorld::new(services);
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?
            .tv_sec()
            .cast_unsigned();
        world.sim.clock.set(now * 1_000_000_000);
        let cases = cases(&world)?;
        let mut programs = PacketPrograms::load(object, PacketWorld::seed(), FLOW_LINES)?;
        programs.fill(&world.sim)?;
        let mut figures = vec![Figures::default(); cases.len()];
        for round in 0..rounds {
            let cases = cases.iter().zip(&mut figures);
            for (case, figures) in cases {
                let first = u64::from(round) * (FLOOD + 1) * count;
                let first = case.prepare(&mut programs, &world.sim, first, count)?;
                let numbers = first..first + count;
                figures.add(&time(case, &programs, &empty, numbers)?);
            }
        }
        let cases = cases.into_iter().zip(figures);
        measured.extend(cases.map(|(case, figures)| (services, case, figures)));
    }
    let limit = limit(measured.iter().flat_map(|(.., figures)| &figures.blocks));
    let rows = measured
        .into_iter()
        .map(|(services, case, figures)| row(services, &case, figures, limit));
    Ok((std::iter::once(head()).chain(rows).collect(), limit))
}

/// Of one kind of packet, in nanoseconds over an empty program.
#[derive(Clone, Default)]
struct Figures {
    rounds: Vec<i64>,
    blocks: Vec<Block>,
}

/// One call of the program, one of the empty one, and at some calls one of the fixed work.
struct Call {
    with: i64,
    without: i64,
    yardstick: Option<i64>,
}

impl Figures {
    fn add(&mut self, round: &[Call]) {
        self.rounds.push(median_over_empty(round));
        self.blocks.extend(round.chunks_exact(BLOCK).map(|calls| {
            let mut yardsticks: Vec<i64> = calls.iter().filter_map(|call| call.yardstick).collect();
            Block {
                cost: median_over_empty(calls),
                yardstick: median(&mut yardsticks),
            }
        }));
    }
}

fn head() -> Vec<String> {
    [
        "Services",
        "packet",
        "hook",
        "median",
        "least and greatest round",
        "at full speed",
        "of the blocks",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn row(services: u32, case: &Case, figures: Figures, limit: i64) -> Vec<String> {
    let Figures { mut rounds, blocks } = figures;
    rounds.sort_unstable();
    let text = |figure: Option<i64>| figure.map_or("-".to_owned(), |figure| figure.to_string());
    let cell = |place: usize| text(rounds.get(place).copied());
    let (fast, count) = at_full_speed(&blocks, limit);
    vec![
        services.to_string(),
        case.name.clone(),
        case.hook.name().to_owned(),
        cell(rounds.len() / 2),
        format!("{} - {}", cell(0), cell(rounds.len().saturating_sub(1))),
        text(fast),
        format!("{count} of {}", blocks.len()),
    ]
}

/// The kinds, with the flows that they need open in the world's tables.
fn cases(world: &PacketWorld) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for v6 in [false, true] {
        let family = if v6 { "IPv6" } else { "IPv4" };
        let mut one = |name: &str, hook, frame| {
            cases.push(Case {
                name: format!("{family}: {name}"),
                hook,
                frames: Frames::One(frame),
            });
        };
        let cluster = Flow::open(world, v6, 1, POD)?;
        let node_port = Flow::open(world, v6, 2, DEVICE)?;
        let stranger = (PacketWorld::outside(v6, 77), Port::new(80));
        let not_ours = Datagram::tcp(cluster.client, stranger, tcp::ACK).frame();
        one("not ours, TCP", POD[0], not_ours);
        let not_ours = Datagram::udp(cluster.client, stranger).frame();
        one("not ours, UDP", POD[0], not_ours);
        one("ClusterIP, hit", POD[0], cluster.request.clone());
        one("ClusterIP, reply", POD[1], cluster.reply_out()?);
        one("NodePort in, hit", DEVICE[0], node_port.request.clone());
        one(
            "NodePort out, hit",
            DEVICE[1],
            node_port.request_out.clone(),
        );
        one("SNAT reply in", DEVICE[0], node_port.reply.clone());
        one("SNAT reply out", DEVICE[1], node_port.reply_out.clone());
        let about = &node_port.request_sent[wire::ETHERNET..];
        let (router, node) = (PacketWorld::outside(v6, 99), PacketWorld::node(v6));
        let error = Error::TooBig(1280).frame(router, node, about, 100);
        one("ICMP error in", DEVICE[0], error);
        for (name, way, is_second, is_flood) in [
            ("ClusterIP, new flow", POD, false, false),
            ("NodePort in, new flow", DEVICE, false, false),
            ("NodePort out, new flow's source", DEVICE, true, false),
            ("ClusterIP, new flow in a flood", POD, false, true),
            ("NodePort in, new flow in a flood", DEVICE, false, true),
        ] {
            cases.push(Case {
                name: format!("{family}: {name}"),
                hook: way[usize::from(is_second)],
                frames: Frames::New(NewFlow {
                    v6,
                    way,
                    is_second,
                    is_flood,
                }),
            });
        }
    }
    Ok(cases)
}

type End = (mesh_common::Address, Port);

/// An established flow: its packets before each hook.
struct Flow {
    client: End,
    request: Vec<u8>,
    /// Between the hooks.
    request_out: Vec<u8>,
    request_sent: Vec<u8>,
    reply: Vec<u8>,
    reply_out: Vec<u8>,
}

fn frontend(v6: bool, way: Way) -> End {
    if way == POD {
        PacketWorld::cluster(v6, PacketWorld::PLAIN)
    } else {
        PacketWorld::node_port(v6)
    }
}

fn client(v6: bool, number: u64) -> End {
    // Ports as Linux gives them to clients (ip_local_port_range).
    let port = 32_768 + (number % 28_000) as u16;
    let address = PacketWorld::outside(v6, 1000 + (number / 28_000) as u32);
    (address, Port::new(port))
}

impl Flow {
    fn open(world: &PacketWorld, v6: bool, number: u32, way: Way) -> Result<Self> {
        let client = (PacketWorld::outside(v6, number), Port::new(40_000));
        let to = frontend(v6, way);
        let there = |flags| {
            let request = Datagram::tcp(client, to, flags).frame();
            let out = pass(&world.sim, way[0], &request)?;
            let sent = pass(&world.sim, way[1], &out)?;
            anyhow::Ok((request, out, sent))
        };
        let (_, _, sent) = there(tcp::SYN)?;
        let seen = wire::parse(&sent).context("the request was lost")?;
        let reply = |flags| Datagram::tcp(seen.destination, seen.source, flags).frame();
        let reply_out = pass(&world.sim, way[0], &reply(tcp::SYN | tcp::ACK))?;
        pass(&world.sim, way[1], &reply_out)?;
        let (request, request_out, request_sent) = there(tcp::ACK)?;
        let reply = reply(tcp::ACK);
        let reply_out = pass(&world.sim, way[0], &reply)?;
        Ok(Self {
            client,
            request,
            request_out,
            request_sent,
            reply,
            reply_out,
        })
    }

    fn reply_out(&self) -> Result<Vec<u8>> {
        ensure!(self.reply_out == self.reply, "a reply was rewritten early");
        Ok(self.reply_out.clone())
    }
}

/// What goes on behind a hook.
fn pass(sim: &Sim, hook: PacketHook, frame: &[u8]) -> Result<Vec<u8>> {
    let mut packet = SimPacket::new(frame.to_vec(), 1);
    let verdict = packet.pass(hook, sim);
    ensure!(
        matches!(verdict, PacketVerdict::Pass | PacketVerdict::Forward),
        "{verdict:?} at {hook:?}"
    );
    Ok(packet.bytes)
}

/// Each packet through the program and through the empty one.
fn time(
    case: &Case,
    programs: &PacketPrograms,
    empty: &EmptyProgram,
    numbers: std::ops::Range<u64>,
) -> Result<Vec<Call>> {
    let mut calls = Vec::new();
    let yardstick = Yardstick::new(empty, vec![0; wire::ETHERNET + 50]);
    for number in numbers {
        let frame = case.frame(programs, number)?;
        let ran = programs.run(case.hook, &frame)?.context("refused")?;
        ensure!(
            ran.code == -1,
            "{}: the program returned {}",
            case.name,
            ran.code
        );
        let looks = calls.len().is_multiple_of(LOOK);
        calls.push(Call {
            with: ran.duration.as_nanos() as i64,
            without: empty.run(&frame)?.as_nanos() as i64,
            yardstick: looks.then(|| yardstick.nanoseconds()).transpose()?,
        });
    }
    Ok(calls)
}

/// The difference of the medians.
fn median_over_empty(calls: &[Call]) -> i64 {
    let mut with: Vec<i64> = calls.iter().map(|call| call.with).collect();
    let mut without: Vec<i64> = calls.iter().map(|call| call.without).collect();
    median(&mut with) - median(&mut without)
}

pub(super) fn median(figures: &mut [i64]) -> i64 {
    figures.sort_unstable();
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

impl Case {
    fn frame(&self, programs: &PacketPrograms, number: u64) -> Result<Vec<u8>> {
        match &self.frames {
            Frames::One(frame) => Ok(frame.clone()),
            Frames::New(flow) => {
                // Those of the second hook are other clients than those of the first.
                let number = number + if flow.is_second { 1 << 30 } else { 0 };
                let to = frontend(flow.v6, flow.way);
                let frame = Datagram::tcp(client(flow.v6, number), to, tcp::SYN);
                if !flow.is_second {
                    return Ok(frame.frame());
                }
                let ran = programs.run(flow.way[0], &frame.frame())?;
                Ok(ran.context("refused")?.bytes)
            }
        }
    }

    /// Makes the table as the case wants it, by flows from this number on. Gives the first number that is left.
    fn prepare(
        &self,
        programs: &mut PacketPrograms,
        sim: &Sim,
        first: u64,
        count: u64,
    ) -> Result<u64> {
        let Frames::New(flow) = &self.frames else {
            return Ok(first);
        };
        programs.fill_traffic(sim)?;
        if !flow.is_flood {
            return Ok(first);
        }
        let next = first + FLOOD * count;
        for number in first..next {
            programs.run(self.hook, &self.frame(programs, number)?)?;
        }
        Ok(next)
    }
}
