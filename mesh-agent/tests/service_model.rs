//! Random Services, endpoints and clients: the agent's whole way in memory (manifests, store, plan, tables, datapath)
//! answers as the model of the API documentation does. A seed that fails is printed; `MESH_SEED=N MESH_WORLDS=1` plays it again.

mod memory;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result, bail, ensure};
use memory::Tables;
use mesh_agent::{
    telemetry::dump::Live,
    trace::{self, Call, packet, packet::Packet},
};
use mesh_common::{Address, ClientAddresses, Interface, Reason};
use mesh_ebpf::{Hook, PacketHook, sim::Sim};
use service_model::{Answer, Ground, Node, PodPlace, Protocol, Question, Random, Way, Why, World};

const WORLDS: u64 = 1000;
const WORLDS_LONG: u64 = 10_000;
const QUESTIONS: usize = 16;
/// A fair choice of 16 misses one of them in 600 tries with a chance of 16 e^-37.
const MOST_TRIES: u64 = 600;
/// Even where all have been seen, so that one too many is seen too.
const FEWEST_TRIES: u64 = 40;
const NODE: &str = "one";
const COOKIE: u64 = 7;
const DEVICE: u32 = 2;
const POD: u32 = 10;

fn ip(text: &str) -> Result<IpAddr> {
    text.parse().with_context(|| text.to_owned())
}

/// Three nodes, whose zones differ from world to world, and places for endpoints on each.
fn ground(random: &mut Random) -> Result<Ground> {
    let zones = ["a", "a", "b", "c", ""];
    let mut nodes = Vec::new();
    let mut places = Vec::new();
    for (number, name) in (1..).zip([NODE, "two", "three"]) {
        let zone = random.pick(&zones).map(|it| (*it).to_owned());
        nodes.push(Node {
            name: name.to_owned(),
            zone: zone.filter(|zone| !zone.is_empty()),
            addresses: vec![
                ip(&format!("172.31.0.{number}"))?,
                ip(&format!("fd00:172::{number}"))?,
            ],
        });
        for place in 1..=3 {
            places.push(PodPlace {
                node: name.to_owned(),
                v4: ip(&format!("10.244.{number}.{place}"))?,
                v6: ip(&format!("fd00:10:244:{number}::{place}"))?,
            });
        }
    }
    let outside = ["192.0.2.1", "192.0.2.99", "2001:db8:f::1", "2001:db8:f::99"];
    Ok(Ground {
        nodes,
        places,
        targets: vec![8080, 8081, 8443],
        outside: outside.iter().map(|it| ip(it)).collect::<Result<_>>()?,
        is_wild: true,
    })
}

/// What the agent makes of a world, ready to be asked.
fn sim(world: &World) -> Result<Sim> {
    let addresses: BTreeSet<IpAddr> = own(world)?.addresses.iter().copied().collect();
    let tables = Tables::of(&world.manifests(), NODE, addresses)?;
    let unknown = Interface::new(Address::UNSPECIFIED, Address::UNSPECIFIED);
    let live = Live {
        tables: tables.dump(),
        interfaces: [(DEVICE, unknown), (POD, unknown)].into(),
        ..Live::default()
    };
    Ok(trace::sim(&live, 1))
}

fn own(world: &World) -> Result<&Node> {
    let mut nodes = world.nodes.iter();
    nodes.find(|node| node.name == NODE).context("the node")
}

/// By what a question comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hooked {
    Socket(Hook),
    Packet(PacketHook, u32),
}

/// Every way that a client's question can take.
fn ways(question: &Question) -> Vec<Hooked> {
    let mut sockets = vec![Hooked::Socket(Hook::Connect)];
    if question.protocol == Protocol::Udp {
        sockets.push(Hooked::Socket(Hook::Sendmsg));
    }
    match question.client.way {
        Way::Host => sockets,
        Way::Pod => {
            sockets.push(Hooked::Packet(PacketHook::FromPod, POD));
            sockets
        }
        Way::Outside => vec![Hooked::Packet(PacketHook::FromDevice, DEVICE)],
    }
}

/// One try.
fn ask(sim: &Sim, question: &Question, hooked: Hooked, number: u64) -> Result<Answer> {
    let to = SocketAddr::new(question.to, question.port);
    let protocol = match question.protocol {
        Protocol::Tcp => mesh_common::Protocol::Tcp,
        Protocol::Udp => mesh_common::Protocol::Udp,
    };
    let (seed, now) = (number, 1_000_000_000);
    let answer = match hooked {
        Hooked::Socket(hook) => {
            let call = Call {
                hook,
                to,
                own_port: 0,
                protocol,
                netns_cookie: COOKIE,
                is_in_host: false,
                seed,
                now,
            };
            trace::run(sim, &call)
        }
        Hooked::Packet(hook, interface) => {
            let port = 1024 + u16::try_from(number % 60_000)?;
            let from = SocketAddr::new(question.client.address, port);
            // Of TCP a SYN.
            let packet = Packet {
                hook,
                interface,
                from,
                to,
                protocol,
                flags: 2,
                seed,
                now,
            };
            packet::run(sim, &packet)
        }
    };
    Ok(match (answer.verdict, answer.reason) {
        ("pass", None) => Answer::Passes,
        ("forward", None) => Answer::Backends {
            of: [answer.target].into(),
            sticky: false,
        },
        (_, Some(Reason::NoEndpoints)) => Answer::Refused(Why::NoEndpoints),
        (_, Some(Reason::NoLocalEndpoints)) => Answer::Refused(Why::NoLocalEndpoints),
        (_, Some(Reason::NoSuchPort)) => Answer::Refused(Why::NoSuchPort),
        (_, Some(Reason::SourceNotAllowed)) => Answer::Dropped,
        _ => bail!("{answer:?}"),
    })
}

/// Nobody has asked yet.
fn forget(sim: &Sim, with_affinity: bool) {
    sim.flows.borrow_mut().clear();
    sim.opening.borrow_mut().clear();
    sim.sockets.borrow_mut().clear();
    if with_affinity {
        sim.affinity.borrow_mut().clear();
    }
}

/// Who answers by one way, over many tries.
fn collect(sim: &Sim, question: &Question, hooked: Hooked, wanted: &Answer) -> Result<Answer> {
    let Answer::Backends { of: wanted, sticky } = wanted else {
        forget(sim, true);
        return ask(sim, question, hooked, 1);
    };
    let mut seen = BTreeSet::new();
    for number in 0..MOST_TRIES {
        if number >= FEWEST_TRIES && seen == *wanted {
            break;
        }
        forget(sim, true);
        match ask(sim, question, hooked, number)? {
            Answer::Backends { of, .. } => seen.extend(of),
            other @ (Answer::Passes | Answer::Refused(_) | Answer::Dropped) => return Ok(other),
        }
    }
    // Of one alone nobody can tell.
    let sticky = match wanted.len() {
        1 => *sticky,
        _ => keeps(sim, question)?,
    };
    Ok(Answer::Backends { of: seen, sticky })
}

/// Whether a client that asks again, by whichever way, is answered by the same one.
fn keeps(sim: &Sim, question: &Question) -> Result<bool> {
    forget(sim, true);
    let mut seen = BTreeSet::new();
    for number in 0..12 {
        if seen.len() > 1 {
            break;
        }
        for hooked in ways(question) {
            forget(sim, false);
            if let Answer::Backends { of, .. } = ask(sim, question, hooked, number)? {
                seen.extend(of);
            }
        }
    }
    Ok(seen.len() == 1)
}

/// Asks one world; how often each answer was given.
fn play(seed: u64, tally: &mut [usize; 4]) -> Result<()> {
    let mut random = Random::new(seed);
    let ground = ground(&mut random)?;
    let services = 1 + u16::try_from(random.below(6))?;
    let world = ground.world(&mut random, services);
    let mut sim = sim(&world)?;
    for _ in 0..QUESTIONS {
        let Some(question) = ground.question(&mut random, &world, NODE) else {
            continue;
        };
        let address = Address::from(question.client.address);
        let client = match address.is_v4() {
            true => ClientAddresses::new(COOKIE, address, Address::UNSPECIFIED),
            false => ClientAddresses::new(COOKIE, Address::UNSPECIFIED, address),
        };
        sim.clients = [(COOKIE, client)].into();
        let wanted = world.answer(&question);
        for hooked in ways(&question) {
            let given = collect(&sim, &question, hooked, &wanted)?;
            ensure!(
                given == wanted,
                "{question:?}\nby {hooked:?}\nis answered {given:?}\nand not  {wanted:?}\n{}",
                world.about(&question)
            );
        }
        tally[match wanted {
            Answer::Passes => 0,
            Answer::Backends { .. } => 1,
            Answer::Refused(_) => 2,
            Answer::Dropped => 3,
        }] += 1;
    }
    Ok(())
}

fn from_environment(name: &str) -> Result<Option<u64>> {
    let text = std::env::var(name).ok();
    let number = text.map(|text| text.parse().with_context(|| format!("{name}={text}")));
    number.transpose()
}

#[test]
fn the_agent_answers_as_the_model_does() -> Result<()> {
    let usual = match std::env::var_os("MESH_LONG") {
        Some(_) => WORLDS_LONG,
        None => WORLDS,
    };
    let count = from_environment("MESH_WORLDS")?.unwrap_or(usual);
    let first = from_environment("MESH_SEED")?.unwrap_or_else(|| u64::from(std::process::id()));
    println!("{count} worlds, seeds from {first}");
    let mut tally = [0; 4];
    for seed in first..first + count {
        play(seed, &mut tally).with_context(|| format!("world of MESH_SEED={seed}"))?;
    }
    let [passed, answered, refused, dropped] = tally;
    println!("passed {passed}, answered {answered}, refused {refused}, dropped {dropped}");
    ensure!(
        count < WORLDS || tally.iter().all(|it| *it > 100),
        "{tally:?} is one-sided"
    );
    Ok(())
}
