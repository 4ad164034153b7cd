//! The packet programs on the kernel this runs on, beside the same stages in memory: a corpus of packets, each cut off at
//! every byte, and packets changed by chance. Verdict, bytes, counters and flows must be equal. Needs root; skipped
//! without, failed in CI.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
};

use anyhow::{Context, Result};
use mesh_common::{Address, BackendState, Port, Protocol};
use mesh_ebpf::{
    LinkHeader, PacketHook, PacketVerdict,
    sim::wire::{self, Datagram, tcp},
};
use mesh_lab::packet::{Corpus, Mutations, PacketPrograms, PacketWorld, Recorded, Twin, corpus};
use nix::sched::{CloneFlags, unshare};

mod race;

/// Mutated packets per hook, unless `MESH_PACKETS` says how many; `cargo xtask test --long` makes it a million.
const MUTATED: usize = 20_000;
const LONG: usize = 1_000_000;
/// After so many packets the tables are compared and begin anew.
const CHUNK: usize = 256;

/// The object, and a network namespace of the test's own, whose sockets are none. None without root, said on standard
/// error.
fn object() -> Result<Option<Vec<u8>>> {
    if !nix::unistd::geteuid().is_root() {
        anyhow::ensure!(
            std::env::var_os("CI").is_none(),
            "the kernel tests need root in CI"
        );
        eprintln!("SKIPPED: kernel tests need root");
        return Ok(None);
    }
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace")?;
    Ok(Some(fs::read(env!("MESH_AGENT_EBPF_OBJECT"))?))
}

fn twin(world: &PacketWorld) -> Result<Option<Twin>> {
    object()?
        .map(|object| Twin::new(&object, world))
        .transpose()
}

/// The twin with all flows of the corpus open.
fn primed(world: &PacketWorld) -> Result<Option<(Twin, Corpus)>> {
    let Some(twin) = twin(world)? else {
        return Ok(None);
    };
    let corpus = corpus(world);
    twin.run_all(&corpus.packets)?;
    Ok(Some((twin, corpus)))
}

#[test]
fn the_corpus_is_the_same_in_kernel_and_memory() -> Result<()> {
    let mut world = PacketWorld::new(8);
    let Some((mut twin, corpus)) = primed(&world)? else {
        return Ok(());
    };
    println!("{} packets", corpus.packets.len());
    // Once more, with all flows there, and then with a backend of each Service gone.
    twin.run_all(&corpus.packets)?;
    for v6 in [false, true] {
        world.put_backend(v6, PacketWorld::PLAIN, 0, BackendState::Gone);
        world.put_backend(v6, PacketWorld::OWN, 0, BackendState::Gone);
        world.put_backend(v6, PacketWorld::STICKY, 1, BackendState::Draining);
    }
    twin.update(&world)?;
    twin.run_all(&corpus.packets)
}

#[test]
fn every_packet_cut_off_at_every_byte() -> Result<()> {
    let Some((mut twin, corpus)) = primed(&PacketWorld::new(8))? else {
        return Ok(());
    };
    let flows = twin.sim.clone();
    let mut verdicts = Verdicts::default();
    let mut kinds = BTreeSet::new();
    for packet in &corpus.packets {
        // Of those that look alike one, unless there is time.
        let kind = (packet.hook, &packet.what, packet.frame.len());
        if !kinds.insert(kind) && std::env::var_os("MESH_LONG").is_none() {
            continue;
        }
        let frames = (0..packet.frame.len()).map(|end| packet.frame[..end].to_vec());
        let frames: Vec<_> = frames.collect();
        chunk(&mut twin, &flows, packet.hook, &frames, &mut verdicts)?;
    }
    verdicts.report("cut off");
    Ok(())
}

#[test]
fn packets_changed_by_chance() -> Result<()> {
    let Some((mut twin, corpus)) = primed(&PacketWorld::new(8))? else {
        return Ok(());
    };
    let flows = twin.sim.clone();
    let (count, seed) = (packets(), number("MESH_SEED").unwrap_or(1) as u64);
    for hook in PacketHook::ALL {
        let of_hook = |packet: &&Recorded| packet.hook == hook;
        let originals: Vec<&Recorded> = corpus.packets.iter().filter(of_hook).collect();
        let mut mutations = Mutations::new(seed);
        let mut verdicts = Verdicts::default();
        for _ in 0..count.div_ceil(CHUNK) {
            let frames: Vec<_> = (0..CHUNK).map(|_| mutations.next(&originals)).collect();
            chunk(&mut twin, &flows, hook, &frames, &mut verdicts)
                .with_context(|| format!("MESH_SEED={seed}"))?;
        }
        verdicts.report(hook.name());
        anyhow::ensure!(
            verdicts.forwarded > 0 && verdicts.passed > 0,
            "{hook:?} has seen one side alone"
        );
    }
    Ok(())
}

/// Tunnels' packets. The kernel tells what they are by what their sources have where frames have their type.
#[test]
fn packets_without_link_header() -> Result<()> {
    let world = PacketWorld::new(5);
    let Some((mut twin, _)) = primed(&world)? else {
        return Ok(());
    };
    let client = |v6| {
        let address: IpAddr = if v6 {
            Ipv6Addr::new(0x2001, 0xdb8, 0x86dd, 0, 0, 0, 0, 7).into()
        } else {
            Ipv4Addr::new(8, 0, 1, 7).into()
        };
        (Address::from(address), Port::new(40_000))
    };
    let (mut originals, mut datagrams) = (Vec::new(), Vec::new());
    for v6 in [false, true] {
        let nobody = PacketWorld::cluster(v6, PacketWorld::EMPTY);
        let closed = (PacketWorld::cluster(v6, 0).0, Port::new(9));
        let elsewhere = (PacketWorld::pod(v6, false), Port::new(9));
        for to in [PacketWorld::node_port(v6), nobody, closed, elsewhere] {
            for flags in [tcp::SYN, tcp::ACK] {
                originals.push(Datagram::tcp(client(v6), to, flags).frame());
            }
        }
        // To somebody: room for an ICMP error would be made behind what the kernel takes for a link header here.
        datagrams.push(Datagram::udp(client(v6), PacketWorld::node_port(v6)).frame());
        datagrams.push(Datagram::udp(client(v6), elsewhere).frame());
    }
    let recorded = |frame: Vec<u8>| Recorded {
        hook: PacketHook::FromDevice,
        what: String::new(),
        frame,
    };
    let originals: Vec<Recorded> = originals.into_iter().map(recorded).collect();
    let flows = twin.sim.clone();
    let mut verdicts = Verdicts::default();
    // As they are; cut off; and changed by chance.
    let whole = originals.iter().map(|it| it.frame.clone());
    let cut = originals.iter().flat_map(|it| {
        let ends = wire::ETHERNET..it.frame.len();
        ends.map(|end| it.frame[..end].to_vec())
    });
    let all: Vec<&Recorded> = originals.iter().collect();
    let mut mutations = Mutations::new(number("MESH_SEED").unwrap_or(1) as u64);
    let changed = (0..packets()).map(|_| mutations.next(&all));
    let frames = whole.chain(cut).chain(changed);
    let frames = frames.filter(|frame| {
        let byte = |at: usize| frame.get(wire::ETHERNET + at).copied();
        let is_v4 = byte(0).is_some_and(|byte| byte >> 4 == 4);
        byte(if is_v4 { 9 } else { 6 }) == Some(6)
    });
    let frames: Vec<Vec<u8>> = datagrams.into_iter().chain(frames).collect();
    for frames in frames.chunks(CHUNK) {
        twin.reset(&flows)?;
        for frame in frames {
            let packet = frame.get(wire::ETHERNET..).unwrap_or_default();
            let version = packet.first().map(|byte| byte >> 4);
            match (version, packet.get(12..14)) {
                (Some(4), Some([0x08, 0x00])) | (Some(6), Some([0x86, 0xdd])) => {}
                _ => continue,
            }
            for hook in [PacketHook::FromDevice, PacketHook::ToDevice] {
                verdicts.count(twin.run_at(hook, LinkHeader::None, packet)?);
            }
        }
        twin.compare()?;
    }
    verdicts.report("without link header");
    anyhow::ensure!(
        verdicts.forwarded > 0
            && verdicts.passed > 0
            && verdicts.dropped > 0
            && verdicts.reflected > 0,
        "{verdicts:?}"
    );
    Ok(())
}

/// A TCP and a UDP socket of the host on a port.
struct Taken {
    port: u16,
    _sockets: (TcpListener, UdpSocket),
}

impl Taken {
    fn at(address: IpAddr, port: u16) -> Result<Self> {
        let at = (address, port);
        let sockets = (TcpListener::bind(at)?, UdpSocket::bind(at)?);
        Ok(Self {
            port,
            _sockets: sockets,
        })
    }
}

/// Where random numbers begin, the two are not compared: clients of one port, and sockets of the host on some ports.
#[test]
fn sources_are_their_own_and_nobody_s_socket() -> Result<()> {
    let Some(object) = object()? else {
        return Ok(());
    };
    let world = PacketWorld::new(5);
    // Half-open ones push each other out where they are many for a table: what is looked at here are those that stay.
    let mut programs = PacketPrograms::load(&object, PacketWorld::seed(), 4096)?;
    programs.fill(&world.sim)?;
    // Nobody has these addresses in the test's namespace.
    fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1")?;
    fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1")?;
    let any = |v6| {
        if v6 {
            IpAddr::from(Ipv6Addr::UNSPECIFIED)
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        }
    };
    for (v6, protocol) in [
        (false, Protocol::Tcp),
        (false, Protocol::Udp),
        (true, Protocol::Tcp),
        (true, Protocol::Udp),
    ] {
        let everywhere = Taken::at(any(v6), 21_000)?;
        let own = Taken::at(PacketWorld::node(v6).to_ip(), 21_001)?;
        let elsewhere = Taken::at(PacketWorld::outside(v6, 7).to_ip(), 21_002)?;
        let mut given = BTreeMap::new();
        for number in 0..200 {
            let port = match number {
                0..100 => everywhere.port,
                100 => own.port,
                101 => elsewhere.port,
                _ => 21_010,
            };
            let client = (PacketWorld::outside(v6, 1000 + number), Port::new(port));
            let frontend = PacketWorld::node_port(v6);
            let datagram = |from, to, flags| match protocol {
                Protocol::Tcp => Datagram::tcp(from, to, flags).frame(),
                Protocol::Udp => Datagram::udp(from, to).frame(),
            };
            let pass = |hook, frame: &[u8]| -> Result<Vec<u8>> {
                let ran = programs.run(hook, frame)?.context("refused")?;
                anyhow::ensure!(ran.code == -1, "{hook:?} returns {}", ran.code);
                wire::check(&ran.bytes).map_err(anyhow::Error::msg)?;
                Ok(ran.bytes)
            };
            let frame = pass(
                PacketHook::FromDevice,
                &datagram(client, frontend, tcp::SYN),
            )?;
            let frame = pass(PacketHook::ToDevice, &frame)?;
            let seen = wire::parse(&frame).context("no packet")?;
            let source = seen.source.1.get();
            assert_eq!(seen.source.0, PacketWorld::node(v6));
            assert!(![everywhere.port, own.port].contains(&source));
            assert!(!(30_000..=32_767).contains(&source));
            assert!(port != elsewhere.port || source == port, "{source}");
            assert_eq!(given.insert((seen.source, seen.destination), client), None);

            let reply = datagram(seen.destination, seen.source, tcp::SYN | tcp::ACK);
            let frame = pass(PacketHook::FromDevice, &reply)?;
            let frame = pass(PacketHook::ToDevice, &frame)?;
            let seen = wire::parse(&frame).context("no packet")?;
            assert_eq!((seen.source, seen.destination), (frontend, client));
        }
    }
    Ok(())
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

fn packets() -> usize {
    let long = std::env::var_os("MESH_LONG").map(|_| LONG);
    number("MESH_PACKETS").or(long).unwrap_or(MUTATED)
}

/// How often each was said.
#[derive(Debug, Default)]
struct Verdicts {
    passed: usize,
    forwarded: usize,
    dropped: usize,
    reflected: usize,
    refused: usize,
}

impl Verdicts {
    const fn count(&mut self, verdict: Option<PacketVerdict>) {
        let place = match verdict {
            Some(PacketVerdict::Pass) => &mut self.passed,
            Some(PacketVerdict::Forward) => &mut self.forwarded,
            Some(PacketVerdict::Drop(_)) => &mut self.dropped,
            Some(PacketVerdict::Reflect(_)) => &mut self.reflected,
            None => &mut self.refused,
        };
        *place += 1;
    }

    fn report(&self, what: &str) {
        println!("{what}: {self:?} (refused: too short for BPF_PROG_TEST_RUN)");
    }
}

/// Packets at a hook over the same tables. If these differ at the end, the packet after which they do is looked for.
fn chunk(
    twin: &mut Twin,
    flows: &mesh_ebpf::sim::Sim,
    hook: PacketHook,
    frames: &[Vec<u8>],
    verdicts: &mut Verdicts,
) -> Result<()> {
    twin.reset(flows)?;
    for frame in frames {
        verdicts.count(twin.run(hook, frame)?);
    }
    let Err(whole) = twin.compare() else {
        return Ok(());
    };
    twin.reset(flows)?;
    for frame in frames {
        twin.run(hook, frame)?;
        twin.compare()
            .with_context(|| format!("after this packet at {hook:?}: {frame:02x?}"))?;
    }
    Err(whole.context("a difference that did not come again"))
}
