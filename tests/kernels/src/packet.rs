//! The packet path: every program of a hook at an interface of a namespace of its own, and packets of a Service through
//! them by BPF_PROG_TEST_RUN, there and back.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use mesh_common::Protocol;
use nix::sched::{CloneFlags, unshare};

use crate::{
    clsact,
    object::{Loaded, Program},
    service::Maps,
    sys,
};

/// Hooks, each with its direction.
const HOOKS: [(&str, Direction); 6] = [
    ("from_pod", Direction::Ingress),
    ("to_pod", Direction::Egress),
    ("from_device", Direction::Ingress),
    ("to_device", Direction::Egress),
    ("from_l3_device", Direction::Ingress),
    ("to_l3_device", Direction::Egress),
];

/// Programs of single stages and their places in `stages`, as the agent fills it.
const STAGES: [(&str, u32); 10] = [
    ("ingress_parse", 0),
    ("ingress_open", 2),
    ("ingress_choose", 9),
    ("ingress_enter", 8),
    ("ingress_confirm", 3),
    ("ingress_icmp", 6),
    ("ingress_refuse", 7),
    ("egress_parse", 16),
    ("egress_source", 16 + 4),
    ("egress_icmp", 16 + 6),
];

const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 1, 0, 9), 40_000);
const SERVICE: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 53), 53);
const BACKEND: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 2, 0, 7), 5353);
/// The Service's number in the tables: unlike those of the traffic through sockets.
const NUMBER: u32 = 9;

/// TC_ACT_UNSPEC as the kernel returns it.
const GOES_ON: u32 = u32::MAX;

/// Which way packets go.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    /// Into the host's stack.
    Ingress,
    /// Out of it.
    Egress,
}

/// Whether it is a program of packets, which is not attached to a cgroup.
pub(crate) fn is_packets(program: &Program) -> bool {
    let names = HOOKS.iter().map(|(name, _)| *name);
    names
        .chain(STAGES.iter().map(|(name, _)| *name))
        .any(|name| name == program.name)
}

/// All checks, each with its name. The process is in a network namespace of its own afterwards.
pub(crate) fn all(loaded: &Loaded) -> Vec<(String, Result<()>)> {
    let mut results = vec![("packets are translated".to_owned(), translated(loaded))];
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        results.push(("a network namespace".to_owned(), Err(error.into())));
        return results;
    }
    for (name, direction) in HOOKS {
        let result = program(loaded, name).and_then(|program| attached(program, direction));
        results.push((format!("program {name} attaches"), result));
    }
    results
}

fn program<'a>(loaded: &'a Loaded, name: &str) -> Result<&'a Program> {
    let mut programs = loaded.programs.iter();
    programs
        .find(|program| program.name == name)
        .with_context(|| format!("the object has no program {name}"))
}

/// By a tcx link, or before Linux 6.6 as a filter of a clsact qdisc. Loopback is the interface that every namespace has.
fn attached(program: &Program, direction: Direction) -> Result<()> {
    const LOOPBACK: u32 = 1;
    match sys::tcx_link(&program.fd, LOOPBACK, direction) {
        Ok(link) => {
            drop(link);
            Ok(())
        }
        Err(_) => clsact::attach(&program.fd, LOOPBACK, direction),
    }
}

fn translated(loaded: &Loaded) -> Result<()> {
    for (name, place) in STAGES {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&program(loaded, name)?.fd);
        let stages = loaded.maps.get("stages").context("no map stages")?;
        sys::map_update(stages, &place.to_ne_bytes(), &fd.to_ne_bytes())?;
    }
    let at = |(address, port): (Ipv4Addr, u16)| SocketAddr::from((address, port));
    let maps = Maps::new(&loaded.maps);
    maps.serve(NUMBER, at(SERVICE), Protocol::Udp, at(BACKEND))?;
    // Twice: the first packet opens the flow, the second finds it.
    for _ in 0..2 {
        through(loaded, "from_pod", (CLIENT, SERVICE), (CLIENT, BACKEND))?;
    }
    through(loaded, "to_pod", (BACKEND, CLIENT), (SERVICE, CLIENT))?;
    // Of no Service.
    through(loaded, "from_device", (CLIENT, BACKEND), (CLIENT, BACKEND))?;
    through(loaded, "to_device", (CLIENT, SERVICE), (CLIENT, SERVICE))
}

type Ends = ((Ipv4Addr, u16), (Ipv4Addr, u16));

fn through(loaded: &Loaded, name: &str, from: Ends, to: Ends) -> Result<()> {
    let program = program(loaded, name)?;
    let (verdict, packet) = sys::test_run(&program.fd, &datagram(from))?;
    ensure!(verdict == GOES_ON, "{name} {from:?}: verdict {verdict}");
    ensure!(
        packet == datagram(to),
        "{name} {from:?}: not {to:?} but {packet:?}"
    );
    Ok(())
}

/// Ethernet, IPv4 and UDP without data, with every checksum.
fn datagram(((source, source_port), (destination, destination_port)): Ends) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0];
    ip.extend(source.octets());
    ip.extend(destination.octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    let mut udp = Vec::new();
    udp.extend(source_port.to_be_bytes());
    udp.extend(destination_port.to_be_bytes());
    udp.extend([0, 8, 0, 0]);
    let pseudo = [&ip[12..20], &[0, 17, 0, 8], &udp[..]].concat();
    let sum = checksum(&pseudo);
    udp[6..8].copy_from_slice(&sum);
    let ethernet = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    [&ethernet[..], &ip, &udp].concat()
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
