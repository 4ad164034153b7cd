//! The same packet through the kernel's programs and through the stages in memory, over the same tables. What differs is
//! an error that shows both.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use mesh_common::{FlowKey, FlowValue};
use mesh_ebpf::{
    LinkHeader, PacketHook, PacketVerdict,
    sim::{Sim, SimPacket},
};
use nix::time::{ClockId, clock_gettime};

use super::{PacketPrograms, PacketWorld, Recorded};

/// What programs return: the next one's turn, dropped, sent back.
const NEXT: i32 = -1;
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;

/// BPF_PROG_TEST_RUN takes no frame that ends before its IP header does.
const SHORT: usize = 54;

/// Enough for the half-open flows of the corpus; each comparison reads them all.
const FLOW_LINES: u32 = 64;

/// Both.
#[derive(Debug)]
pub struct Twin {
    /// The stages in memory.
    pub sim: Sim,
    kernel: PacketPrograms,
}

impl Twin {
    /// Loads the object and gives both the world's tables.
    ///
    /// # Errors
    /// If the kernel refuses the object.
    pub fn new(object: &[u8], world: &PacketWorld) -> Result<Self> {
        let mut kernel = PacketPrograms::load(object, PacketWorld::seed(), FLOW_LINES)?;
        kernel.fill(&world.sim)?;
        let sim = world.sim.clone();
        Ok(Self { sim, kernel })
    }

    /// Gives both these tables; the counters of the kernel stay, and so do the other's.
    ///
    /// # Errors
    /// If a map cannot be written.
    pub fn reset(&mut self, sim: &Sim) -> Result<()> {
        let counts = self.sim.counts.take();
        self.sim = sim.clone();
        *self.sim.counts.borrow_mut() = counts;
        self.kernel.fill_traffic(sim)
    }

    /// Gives both the same tables of the agent's.
    ///
    /// # Errors
    /// If a map cannot be written.
    pub fn update(&mut self, world: &PacketWorld) -> Result<()> {
        self.sim.backends.clone_from(&world.sim.backends);
        self.kernel.fill(&self.sim)
    }

    /// A packet through both. None for what the kernel does not take for a packet.
    ///
    /// # Errors
    /// If verdict or bytes differ.
    pub fn run(&self, hook: PacketHook, frame: &[u8]) -> Result<Option<PacketVerdict>> {
        self.run_at(hook, LinkHeader::Ethernet, frame)
    }

    /// The same where packets begin with this, as `PacketPrograms::run_at`.
    ///
    /// # Errors
    /// If verdict or bytes differ.
    pub fn run_at(
        &self,
        hook: PacketHook,
        link: LinkHeader,
        frame: &[u8],
    ) -> Result<Option<PacketVerdict>> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        let Some(ran) = self.kernel.run_at(hook, link, frame)? else {
            ensure!(
                frame.len() < SHORT,
                "refused by the kernel:\n{}",
                hex(frame)
            );
            return Ok(None);
        };
        let nanoseconds = now.tv_sec() * 1_000_000_000 + now.tv_nsec();
        self.sim.clock.set(nanoseconds.cast_unsigned());
        let mut packet = SimPacket::new(frame.to_vec(), 1);
        packet.link = link;
        let verdict = packet.pass(hook, &self.sim);
        let code = match verdict {
            PacketVerdict::Pass | PacketVerdict::Forward => NEXT,
            PacketVerdict::Drop(_) => SHOT,
            PacketVerdict::Reflect(_) => REDIRECT,
        };
        ensure!(
            ran.code == code,
            "at {hook:?} the kernel says {}, the stages in memory {verdict:?}, of\n{}",
            ran.code,
            hex(frame)
        );
        ensure!(
            ran.bytes == packet.bytes,
            "at {hook:?} ({verdict:?}) the kernel makes\n{}\nand the stages in memory\n{}\nof\n{}",
            hex(&ran.bytes),
            hex(&packet.bytes),
            hex(frame)
        );
        Ok(Some(verdict))
    }

    /// Packets in order, then what they left.
    ///
    /// # Errors
    /// At the first difference.
    pub fn run_all(&self, packets: &[Recorded]) -> Result<()> {
        for packet in packets {
            self.run(packet.hook, &packet.frame)
                .with_context(|| packet.what.clone())?;
        }
        self.compare()
    }

    /// What packets left in the tables, and what was counted.
    ///
    /// # Errors
    /// Names the table that differs, and where.
    pub fn compare(&self) -> Result<()> {
        flows(
            "opening",
            &self.kernel.opening()?,
            &self.sim.opening.borrow(),
        )?;
        flows("flows", &self.kernel.flows()?, &self.sim.flows.borrow())?;
        same(
            "fragments",
            &self.kernel.fragments()?,
            &self.sim.fragments.borrow(),
        )?;
        same(
            "counters",
            &self.kernel.counters()?,
            &self.sim.counts.borrow(),
        )?;
        let choices = |map: &BTreeMap<_, mesh_common::AffinityValue>| -> BTreeMap<_, _> {
            let choice = |value: &mesh_common::AffinityValue| {
                (value.service(), value.backend(), value.generation())
            };
            map.iter()
                .map(|(key, value)| (*key, choice(value)))
                .collect()
        };
        let (kernel, sim) = (self.kernel.affinity()?, self.sim.affinity.borrow());
        same("affinity", &choices(&kernel), &choices(&sim))
    }
}

fn same<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    name: &str,
    kernel: &BTreeMap<K, V>,
    sim: &BTreeMap<K, V>,
) -> Result<()> {
    let keys = kernel.keys().chain(sim.keys());
    let differing: Vec<String> = keys
        .filter(|key| kernel.get(key) != sim.get(key))
        .map(|key| format!("{key:?}: {:?} and {:?}", kernel.get(key), sim.get(key)))
        .collect();
    ensure!(
        differing.is_empty(),
        "{name} differs, in the kernel and in memory:\n{}",
        differing.join("\n")
    );
    Ok(())
}

/// Clocks are read one after the other, so stamps may differ by a second.
fn flows(
    name: &str,
    kernel: &BTreeMap<FlowKey, FlowValue>,
    sim: &BTreeMap<FlowKey, FlowValue>,
) -> Result<()> {
    let timeless = |flows: &BTreeMap<FlowKey, FlowValue>| -> BTreeMap<FlowKey, FlowValue> {
        let without_stamp = |value: &FlowValue| {
            let mut value = *value;
            value.note(value.seen(), 0);
            value
        };
        flows
            .iter()
            .map(|(key, value)| (*key, without_stamp(value)))
            .collect()
    };
    same(name, &timeless(kernel), &timeless(sim))?;
    for (key, value) in kernel {
        let other = sim.get(key).map_or(0, |value| value.stamp());
        ensure!(
            value.stamp().abs_diff(other) <= 1,
            "{name}: the stamp of {key:?} is {} in the kernel and {other} in memory",
            value.stamp()
        );
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| {
        let words = line
            .chunks(2)
            .map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect());
        words.collect::<Vec<String>>().join(" ")
    };
    bytes.chunks(16).map(line).collect::<Vec<_>>().join("\n")
}
