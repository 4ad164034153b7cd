//! The tables of a `Sim` written into the kernel's maps, and what traffic wrote read back.

use std::{collections::BTreeMap, mem::offset_of};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, lpm_trie::Key};
use mesh_common::{
    AffinityKey, AffinityValue, Backend, Counter, EARLY_INTERFACES, FlowKey, FlowLine, FlowValue,
    FragmentKey, FragmentPorts, FrontendKey, FrontendValue, Interface, Plain, bytes_of, from_bytes,
    put_flow,
};
use mesh_ebpf::{PacketState, sim::Sim};

use super::programs::{PacketPrograms, SPILL};

const BACKEND: usize = size_of::<Backend>();
const LINE: usize = size_of::<FlowLine>();
const STATE: usize = size_of::<PacketState>();
/// Words of a line's head.
const HEAD: usize = 16;

fn array<const N: usize>(value: &impl Plain) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(bytes_of(value));
    bytes
}

impl PacketPrograms {
    /// Writes all tables: those of the agent and those of traffic. What was in the former stays where it is not
    /// overwritten.
    ///
    /// # Errors
    /// If a map has no room.
    pub fn fill(&mut self, sim: &Sim) -> Result<()> {
        for (key, value) in &sim.frontends {
            self.put::<20, 16>("frontends", key, value)?;
        }
        let map = self.object.map_mut("interfaces");
        let map = map.context("no map interfaces")?;
        let mut interfaces: Array<&mut MapData, [u8; 32]> = map.try_into()?;
        let (early, late): (Vec<_>, Vec<_>) = sim
            .interfaces
            .iter()
            .partition(|(index, _)| **index < EARLY_INTERFACES);
        for (index, value) in early {
            interfaces.set(*index, array(value), 0)?;
        }
        for (index, value) in late {
            self.put::<4, 32>("late_interfaces", index, value)?;
        }
        for (id, word) in &sim.services {
            self.word("services", *id, word.word())?;
        }
        for (id, word) in &sim.sets {
            self.word("sets", *id, word.word())?;
        }
        for (index, id) in &sim.slots {
            self.word("slots", *index, u64::from(*id))?;
        }
        let map = self.object.map_mut("backends").context("no map backends")?;
        let mut backends: Array<&mut MapData, [u8; BACKEND]> = map.try_into()?;
        for (id, backend) in &sim.backends {
            backends.set(*id, array(backend), 0)?;
        }
        let map = self.object.map_mut("source_ranges");
        let map = map.context("no map source_ranges")?;
        let mut ranges: LpmTrie<&mut MapData, [u8; 20], u32> = map.try_into()?;
        for range in &sim.source_ranges {
            let bytes: [u8; 24] = array(range);
            let (bits, rest) = bytes.split_at(4);
            let bits = from_bytes(bits).context("bits of a range")?;
            ranges.insert(&Key::new(bits, rest.try_into()?), 1, 0)?;
        }
        self.fill_traffic(sim)
    }

    /// Makes the maps that traffic writes hold what the tables hold, and nothing else.
    ///
    /// # Errors
    /// If a map has no room.
    pub fn fill_traffic(&mut self, sim: &Sim) -> Result<()> {
        self.replace_flows(&sim.opening.borrow(), &sim.flows.borrow())?;
        self.replace::<40, 8, _, _>("fragments", &sim.fragments.borrow())?;
        self.replace::<24, 24, _, _>("affinity", &sim.affinity.borrow())
    }

    fn put<const K: usize, const V: usize>(
        &mut self,
        name: &str,
        key: &impl Plain,
        value: &impl Plain,
    ) -> Result<()> {
        let map = self.object.map_mut(name);
        let map = map.with_context(|| format!("no map {name}"))?;
        let mut map: HashMap<&mut MapData, [u8; K], [u8; V]> = map.try_into()?;
        map.insert(array::<K>(key), array::<V>(value), 0)
            .with_context(|| format!("map {name}"))
    }

    fn word(&mut self, name: &str, index: u32, word: u64) -> Result<()> {
        let map = self.object.map_mut(name);
        let map = map.with_context(|| format!("no map {name}"))?;
        let mut map: Array<&mut MapData, u64> = map.try_into()?;
        map.set(index, word, 0)
            .with_context(|| format!("map {name}, index {index}"))
    }

    fn replace<const K: usize, const V: usize, A: Plain, B: Plain>(
        &mut self,
        name: &str,
        entries: &BTreeMap<A, B>,
    ) -> Result<()> {
        let map = self.object.map_mut(name);
        let map = map.with_context(|| format!("no map {name}"))?;
        let mut map: HashMap<&mut MapData, [u8; K], [u8; V]> = map.try_into()?;
        let wanted: BTreeMap<[u8; K], [u8; V]> = entries
            .iter()
            .map(|(key, value)| (array(key), array(value)))
            .collect();
        let found: BTreeMap<[u8; K], [u8; V]> = map.iter().collect::<Result<_, _>>()?;
        for key in found.keys().filter(|key| !wanted.contains_key(*key)) {
            map.remove(key)?;
        }
        for (key, value) in wanted {
            if found.get(&key) != Some(&value) {
                map.insert(key, value, 0)?;
            }
        }
        Ok(())
    }

    fn read<const K: usize, const V: usize, A: Plain + Ord, B: Plain>(
        &self,
        name: &str,
    ) -> Result<BTreeMap<A, B>> {
        let map = self.object.map(name);
        let map = map.with_context(|| format!("no map {name}"))?;
        let map: HashMap<&MapData, [u8; K], [u8; V]> = map.try_into()?;
        let mut entries = BTreeMap::new();
        for entry in map.iter() {
            let (key, value) = entry?;
            let entry = from_bytes::<A>(&key).zip(from_bytes::<B>(&value));
            entries.extend(entry);
        }
        Ok(entries)
    }

    /// Lines that are as they should be are not written.
    fn replace_flows(
        &mut self,
        opening: &BTreeMap<FlowKey, FlowValue>,
        confirmed: &BTreeMap<FlowKey, FlowValue>,
    ) -> Result<()> {
        let count = self.flow_lines;
        let mut wanted = vec![FlowLine::EMPTY; (count + SPILL) as usize];
        for (flows, is_confirmed) in [(opening, false), (confirmed, true)] {
            for (key, value) in flows {
                let main = wanted.get_mut(..count as usize).unwrap_or_default();
                let is_put = put_flow(main, self.seed, (key, value), is_confirmed);
                ensure!(is_put, "no room in a line of flows");
            }
        }
        let map = self.object.map_mut("flows").context("no map flows")?;
        let mut map: Array<&mut MapData, [u8; LINE]> = map.try_into()?;
        for (number, line) in (0..).zip(&wanted) {
            let wanted = array(line);
            if map.get(&number, 0)? != wanted {
                map.set(number, wanted, 0)?;
            }
        }
        Ok(())
    }

    fn read_flows(&self, opening: bool) -> Result<BTreeMap<FlowKey, FlowValue>> {
        let map = self.object.map("flows").context("no map flows")?;
        let map: Array<&MapData, [u8; LINE]> = map.try_into()?;
        let mut flows = BTreeMap::new();
        for number in 0..self.flow_lines + SPILL {
            let line = from_bytes::<FlowLine>(&map.get(&number, 0)?);
            let found = line.iter().flat_map(|line| line.flows(self.seed));
            let found = found.filter(|(_, _, is_opening)| *is_opening == opening);
            flows.extend(found.map(|(key, value, _)| (key, value)));
        }
        Ok(flows)
    }

    /// The half-open flows.
    ///
    /// # Errors
    /// If it cannot be read; so for all that follow.
    pub fn opening(&self) -> Result<BTreeMap<FlowKey, FlowValue>> {
        self.read_flows(true)
    }

    /// The confirmed ones.
    ///
    /// # Errors
    /// As above.
    pub fn flows(&self) -> Result<BTreeMap<FlowKey, FlowValue>> {
        self.read_flows(false)
    }

    /// The heads of all lines of `flows` as they are: the state, and the tags.
    ///
    /// # Errors
    /// As above.
    pub fn heads(&self) -> Result<Vec<[u32; HEAD]>> {
        let map = self.object.map("flows").context("no map flows")?;
        let map: Array<&MapData, [u8; LINE]> = map.try_into()?;
        let head = |number| {
            let line = map.get(&number, 0)?;
            let (words, _) = line.as_chunks::<4>();
            let mut head = [0; HEAD];
            for (to, word) in head.iter_mut().zip(words) {
                *to = u32::from_ne_bytes(*word);
            }
            Ok(head)
        };
        (0..self.flow_lines + SPILL).map(head).collect()
    }

    /// The tuple of the last packet of this processor that needed another stage at an ingress hook than those of every packet,
    /// if a backend was chosen for it: that is so for who finds no flow.
    ///
    /// # Errors
    /// As above.
    pub fn last_choice(&self, processor: usize) -> Result<Option<FlowKey>> {
        const BACKEND: usize = offset_of!(PacketState, backend);
        const { assert!(offset_of!(PacketState, key) == 0) };
        let map = self.object.map("scratch_ingress");
        let map = map.context("no map scratch_ingress")?;
        let map: PerCpuArray<&MapData, [u8; STATE]> = map.try_into()?;
        let states = map.get(&0, 0)?;
        let state = states.get(processor).context("no such processor")?;
        // Its id and its generation; no generation is 0.
        let has_backend = state.iter().skip(BACKEND).take(8).any(|byte| *byte != 0);
        let key = state.get(..size_of::<FlowKey>()).unwrap_or_default();
        let key = from_bytes(key).context("a key of another size")?;
        Ok(has_backend.then_some(key))
    }

    /// `fragments`.
    ///
    /// # Errors
    /// As above.
    pub fn fragments(&self) -> Result<BTreeMap<FragmentKey, FragmentPorts>> {
        self.read::<40, 8, _, _>("fragments")
    }

    /// `affinity`.
    ///
    /// # Errors
    /// As above.
    pub fn affinity(&self) -> Result<BTreeMap<AffinityKey, AffinityValue>> {
        self.read::<24, 24, _, _>("affinity")
    }

    /// The counters above zero, over all processors.
    ///
    /// # Errors
    /// As above.
    pub fn counters(&self) -> Result<BTreeMap<Counter, u64>> {
        let map = self.object.map("counters").context("no map counters")?;
        let map: PerCpuArray<&MapData, u64> = map.try_into()?;
        let mut counters = BTreeMap::new();
        for counter in Counter::ALL {
            let sum: u64 = map.get(&counter.index(), 0)?.iter().sum();
            if sum != 0 {
                counters.insert(counter, sum);
            }
        }
        Ok(counters)
    }
}

const _: () = assert!(size_of::<FrontendKey>() == 20 && size_of::<FrontendValue>() == 16);
const _: () = assert!(size_of::<FragmentKey>() == 40 && size_of::<FragmentPorts>() == 8);
const _: () = assert!(size_of::<AffinityKey>() == 24 && size_of::<AffinityValue>() == 24);
const _: () = assert!(size_of::<Interface>() == 32);
