//! Taking over from kube-proxy: before the programs are in force, flows that the kernel's conntrack translates are put into
//! the map `foreign`, so that they stay where they are; after that they are let go once they are silent, or at once when
//! their backend is gone, for kube-proxy may no longer be there to do so.

use std::time::{Duration, Instant};

use super::shared::KernelEngine;
use crate::{
    datapath,
    foreign::{Foreign, Memory, Terms},
    netlink,
};

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
        let terms = Terms {
            now: seconds(),
            memory: memory(),
            at_once: self.at_once,
        };
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
        self.next_sweep = Instant::now() + SWEEP;
        let maps = &mut engine.writer().maps;
        for (key, seen) in &entries {
            if let Err(error) = maps.put_foreign(key, *seen) {
                tracing::warn!("{error}; some of kube-proxy's UDP flows are taken over at once");
                break;
            }
        }
        if !self.foreign.is_empty() {
            tracing::info!(
                entries = self.foreign.len(),
                "UDP flows of kube-proxy stay with it until they are silent for 30 s"
            );
        }
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
            over.extend(self.foreign.silent(seconds(), |key| maps.foreign(key)));
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

/// Seconds of the clock that the programs have.
fn seconds() -> u32 {
    let seconds = datapath::monotonic_nanoseconds() / 1_000_000_000;
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// What the kernel is set to; what it does not tell is its default.
fn memory() -> Memory {
    let of = |name: &str| {
        let path = format!("/proc/sys/net/netfilter/{name}");
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().parse().ok()
    };
    let default = Memory::default();
    Memory {
        new: of("nf_conntrack_udp_timeout").unwrap_or(default.new),
        assured: of("nf_conntrack_udp_timeout_stream").unwrap_or(default.assured),
    }
}
