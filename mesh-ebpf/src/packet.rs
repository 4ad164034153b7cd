//! The way of a packet: parse -> conntrack -> open (-> choose -> enter) | confirm | source -> rewrite -> verdict, each a stage.
//!
//! What comes in by an ingress hook has its destination rewritten, what goes out by an egress hook its source, as
//! netfilter's PREROUTING and POSTROUTING do. Between the two the host's stack sees client and backend, both ways.

mod checksum;
mod choose;
mod confirm;
mod conntrack;
mod direct;
mod enter;
mod extension;
mod header;
mod icmp;
mod limit;
mod open;
mod parse;
mod refuse;
mod rewrite;
mod source;
mod state;
#[cfg(test)]
mod tests;

pub use checksum::Difference;
pub use limit::IcmpLimit;
pub use source::SnatPorts;
pub use state::{
    Family, Fragment, LinkHeader, PacketHook, PacketStage, PacketState, PacketStep, PacketVerdict,
};

use crate::{Env, Packet};
use mesh_common::Counter;

/// One stage.
#[inline(always)]
pub fn run_packet<E: Env, P: Packet>(
    stage: PacketStage,
    env: &E,
    packet: &mut P,
    state: &mut PacketState,
) -> PacketStep {
    match stage {
        PacketStage::Parse => parse::stage(env, packet, state),
        PacketStage::Conntrack => conntrack::stage(env, state),
        PacketStage::Open => open::stage(env, state),
        PacketStage::Confirm => confirm::stage(env, state),
        PacketStage::Source => source::stage(env, packet, state),
        PacketStage::Rewrite => rewrite::stage(env, packet, state),
        PacketStage::Icmp => icmp::stage(env, packet, state),
        PacketStage::Refuse => refuse::stage(env, packet, state),
        PacketStage::Choose => choose::stage(env, state),
        PacketStage::Enter => enter::stage(env, state),
    }
}

/// What is known of a packet that is as almost every one is, read where it lies; stage Conntrack comes next. None leaves it to
/// stage Parse, from the start.
#[must_use]
#[inline(always)]
pub fn direct<P: Packet>(packet: &P, hook: PacketHook) -> Option<PacketState> {
    direct::parse(packet, hook)
}

/// What every packet of an established flow meets, from stage Conntrack on. What it says comes next is another program's.
#[inline(always)]
pub fn track<E: Env, P: Packet>(env: &E, packet: &mut P, state: &mut PacketState) -> PacketStep {
    match conntrack::stage(env, state) {
        PacketStep::Next(PacketStage::Rewrite) => rewrite::direct(env, packet, state),
        step @ (PacketStep::Next(_) | PacketStep::Done(_)) => step,
    }
}

/// A stage that is a program of its own, and the rewriting that may follow it.
#[inline(always)]
pub fn cold<E: Env, P: Packet>(
    stage: PacketStage,
    env: &E,
    packet: &mut P,
    state: &mut PacketState,
) -> PacketStep {
    let mut step = run_packet(stage, env, packet, state);
    if stage as u8 == PacketStage::Parse as u8 && step == PacketStep::Next(PacketStage::Conntrack) {
        step = conntrack::stage(env, state);
    }
    match step {
        PacketStep::Next(PacketStage::Rewrite) => rewrite::stage(env, packet, state),
        PacketStep::Next(_) | PacketStep::Done(_) => step,
    }
}

/// Every packet that is not forwarded adds to exactly one reason, here.
#[inline(always)]
pub fn count_packet<E: Env>(env: &E, verdict: PacketVerdict) {
    if let PacketVerdict::Drop(reason) | PacketVerdict::Reflect(reason) = verdict {
        env.count(Counter::Dropped(reason));
    }
}
