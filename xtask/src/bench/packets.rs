//! `bench packets`: what a packet costs at each hook by itself, what a forwarded one costs a node beside the real kube-proxy,
//! and what a pod's traffic to a ClusterIP loses to the packet path.

mod burst;
mod cpu;
mod flows;
mod hooks;
mod kinds;
mod node_port;
mod pod;
mod pods;
mod speed;
mod tables;
mod ways;

use std::path::Path;

use anyhow::Result;

use super::report::Document;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Part {
    /// Nanoseconds at each hook, by BPF_PROG_TEST_RUN
    Hooks,
    /// CPU time of a forwarded packet through a node port, beside kube-proxy
    NodePort,
    /// From a pod to a ClusterIP, with everything attached and with nothing
    Pod,
    /// Memory of a million flows, and what looking for those that are over costs
    Flows,
}

/// What parts need: the programs' object, and the agent.
pub(super) struct Built<'a> {
    pub(super) object: &'a [u8],
    pub(super) agent: &'a Path,
}

/// The parts in this order.
pub(super) fn measure(
    parts: &[Part],
    built: &Built<'_>,
    rounds: Option<u32>,
    document: &mut Document,
) -> Result<()> {
    for part in parts {
        match part {
            Part::Hooks => {
                let rounds = rounds.unwrap_or(hooks::ROUNDS);
                hooks::measure(built.object, rounds, document)?;
            }
            Part::NodePort => {
                let rounds = rounds.unwrap_or(node_port::ROUNDS);
                node_port::measure(built.agent, rounds, document)?;
            }
            Part::Pod => {
                pod::measure(built.agent, rounds.unwrap_or(pod::ROUNDS), document)?;
            }
            Part::Flows => flows::measure(built.agent, document)?,
        }
    }
    Ok(())
}
