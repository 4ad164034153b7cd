//! The packet programs on the kernel this runs on, beside the same stages in memory: a corpus of packets, each cut off at
//! every byte, and packets changed by chance. Verdict, bytes, counters and flows must be equal. Needs root; skipped
//! without, failed in CI.

use std::fs;

use anyhow::{Context, Result};
use mesh_common::BackendState;
use mesh_ebpf::{PacketHook, PacketVerdict};
use mesh_lab::packet::{Corpus, Mutations, PacketWorld, Recorded, Twin, corpus};
use nix::sched::{CloneFlags, unshare};

/// Mutated packets per hook, unless `MESH_PACKETS` says how many; `cargo xtask test --long` makes it a million.
const MUTATED: usize = 20_000;
const LONG: usize = 1_000_000;
/// After so many packets the tables are compared and begin anew.
const CHUNK: usize = 64;

/// A network namespace of the test's own, whose sockets are none. None without root, said on standard error.
fn twin(world: &PacketWorld) -> Result<Option<Twin>> {
    if !nix::unistd::geteuid().is_root() {
        anyhow::ensure!(
            std::env::var_os("CI").is_none(),
            "the kernel tests need root in CI"
        );
        eprintln!("SKIPPED: kernel tests need root");
        return Ok(None);
    }
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace")?;
    let object = fs::read(env!("MESH_AGENT_EBPF_OBJECT"))?;
    Twin::new(&object, world).map(Some)
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
    for packet in &corpus.packets {
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
