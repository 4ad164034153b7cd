//! Taking over from kube-proxy: before the programs are in force, flows that the kernel's conntrack translates are put into
//! the map `foreign`, so that they stay where they are; after that they are let go once they are silent, or at once when
//! their backend is gone, for kube-proxy may no longer be there to do so.

use std::time::{Duration, Instant};

use mesh_common::FlowKey;

use super::shared::KernelEngine;
use crate::{
    conntrack_timeouts, datapath,
    foreign::{Foreign, Memory, Terms},
    netlink,
};

/// A flow is known by its packets, and by its socket.
const ENTRIES_OF_A_FLOW: usize = 2;
/// How often it looks for silent flows.
const SWEEP: Duration = Duration::from_secs(30);

pub(super) struct TakeOver {
    /// --take-over
    at_once: bool,
    foreign: Foreign,
    next_sweep: Instant,
}

impl TakeOver {
    pub(super) fn new(at_once: bool) -> Self {
        Self {
            at_once,
            foreign: Foreign::default(),
            next_sweep: Instant::now(),
        }
    }

    /// Leaves alone what is kube-proxy's. That something cannot be left is no reason not to serve.
    pub(super) fn begin(&mut self, engine: &mut KernelEngine) {
        if !engine.writer().maps.has_foreign() {
            return;
        }
        self.next_sweep = Instant::now() + SWEEP;
        let entries = self.entries(engine);
        let maps = &mut engine.writer().maps;
        let put = entries
            .iter()
            .try_for_each(|(key, seen)| maps.put_foreign(key, *seen));
        if let Err(error) = put {
            tracing::warn!("{error}; some of kube-proxy's UDP flows are taken over at once");
        }
        let left = self.foreign.len();
        if left > 0 {
            tracing::info!(
                "{} UDP flows of kube-proxy's stay with it until they are silent for 30 s",
                left / ENTRIES_OF_A_FLOW
            );
        }
    }

    /// What the kernel's connection tracking gives now.
    fn entries(&mut self, engine: &KernelEngine) -> Vec<(FlowKey, u32)> {
        let terms = Terms {
            now: datapath::monotonic_seconds(),
            memory: memory(),
            at_once: self.at_once,
        };
        self.foreign = Foreign::default();
        let mut entries = Vec::new();
        let read = netlink::translated(|flow| {
            if engine.store().is_alive(flow.backend.0) {
                entries.extend(self.foreign.add(&flow, terms));
            }
        });
        if let Err(error) = read {
            tracing::warn!(
                "the kernel's connection tracking cannot be read: {error}; UDP flows that kube-proxy's rules began are \
                 taken over at once"
            );
        }
        entries
    }

    /// Lets go what is over.
    pub(super) fn step(&mut self, engine: &mut KernelEngine) {
        if self.foreign.is_empty() {
            return;
        }
        let store = engine.store();
        let mut over = self.foreign.without_backend(|it| store.is_alive(it));
        let maps = &mut engine.writer().maps;
        if Instant::now() >= self.next_sweep {
            self.next_sweep = Instant::now() + SWEEP;
            over.extend(
                self.foreign
                    .silent(datapath::monotonic_seconds(), |key| maps.foreign(key)),
            );
        }
        for key in &over {
            if let Err(error) = maps.delete_foreign(key) {
                tracing::warn!(
                    "{error}; a UDP flow stays kube-proxy's until it is silent for 30 s"
                );
            }
        }
    }
}

/// What the kernel is set to; what it does not tell is its default.
fn memory() -> Memory {
    let default = Memory::default();
    Memory {
        new: conntrack_timeouts::read("nf_conntrack_udp_timeout").unwrap_or(default.new),
        assured: conntrack_timeouts::read("nf_conntrack_udp_timeout_stream")
            .unwrap_or(default.assured),
    }
}
