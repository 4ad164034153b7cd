//! What a forwarded packet costs a node: from a client outside the cluster through a node port to a backend on another node
//! and to one on the same node, by the agent, by the real kube-proxy in both modes, and routed without a Service; and the
//! same wires without that node.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    burst::{FLOWS, SIZE, TIME},
    tables::{self, Way},
    ways::{Track, World},
};
use crate::{
    bench::{
        programs::{Counts, Statistics},
        report::Document,
        rival::contender::Contender,
        world::client_cpu,
    },
    run,
};

pub(super) const ROUNDS: u32 = 6;

pub(super) fn measure(agent: &Path, rounds: u32, document: &mut Document) -> Result<()> {
    run::say("node ports: an API server, ten nodes, and kube-proxy on two of them");
    let world = World::build(agent)?;
    world.wait()?;
    for (title, tracks) in [
        ("backend on another node", &world.tracks.elsewhere),
        ("backend on the node", &world.tracks.here),
    ] {
        run::say(title);
        let bursts = (0..rounds)
            .map(|_| world.round(tracks))
            .collect::<Result<Vec<_>>>()?;
        document.table(
            &format!("node port, {title}: CPU time a packet, nanoseconds"),
            &tables::costs(&bursts),
        );
        document.note(&tables::verdict(&bursts));
        document.note(&programs(&world, tracks)?);
    }
    document.note(&settings());
    world.close()
}

fn settings() -> String {
    format!(
        "UDP datagrams of {SIZE} bytes over {FLOWS} open flows (each has had an answer), from one thread on processor {}, \
         a burst of {} ms of CPU time each way, forwards and backwards in each round. The cost of a packet is the CPU time \
         of the sending thread and of its processor's ksoftirqd by the packets that arrived: on veth all of the way is gone \
         in the softirq of the sender, and other processes of the machine count by cold caches alone. The node's share is what that is \
         over the same wires without the node, where a switch forwards what goes elsewhere: receiving, routing, \
         translation and one veth more. Each contender has a node of its own and knows 6 Services; nothing else is in \
         its namespace, and ICMP redirects are off. By the clock others on the machine lower what goes in a second.",
        client_cpu(),
        TIME.as_millis()
    )
}

/// What of the agent's figure its programs are, by the kernel's own clock.
fn programs(world: &World, tracks: &[Track]) -> Result<String> {
    let agent = Way::Contender(Contender::Agent);
    let track = tracks.iter().find(|track| track.way == agent);
    let track = track.context("the agent is a contender")?;
    let statistics = Statistics::on()?;
    let before = Counts::at_interfaces(&world.node)?;
    let measured = world.burst(track)?;
    let after = Counts::at_interfaces(&world.node)?;
    drop(statistics);
    Ok(format!(
        "The agent's programs in another burst, by BPF_ENABLE_STATS (two readings of the clock a run included, so that \
         the burst took {:.0} ns a packet): {}.",
        measured.cpu,
        after.words_since(&before)
    ))
}
