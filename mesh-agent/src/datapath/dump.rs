//! Maps read: whole and typed. Works on the maps of a running agent and on pins alone.

use std::{collections::BTreeMap, io, os::fd::AsFd, path::Path};

use mesh_common::{
    AffinityKey, AffinityValue, Backend, COUNTERS, ClientAddresses, Counter, FLOW_WAYS, FlowLine,
    FrontendKey, FrontendValue, Interface, LearnedClient, MAPS, MapShape, Peer, Plain, ServiceWord,
    SetWord, SocketKey, SocketValue, SourceRangeKey, from_bytes,
};

use super::{
    DatapathError,
    pins::Pins,
    shape::{Fit, fit, spec},
    sys::{self, RawMap, Words},
};
use crate::plan::TableDump;

/// Maps that can be read. Reading counts nothing and needs no lock.
#[derive(Debug, Default)]
pub struct Reader {
    maps: BTreeMap<&'static str, RawMap>,
    /// Why there are not all of them.
    absent: Absent,
}

/// Why a map cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Absent {
    /// There is no pin of its layout.
    #[default]
    NotPinned,
    /// There are no pins at all.
    NoDatapath,
    /// Pins are root's.
    Denied,
}

impl Absent {
    fn error(self) -> io::Error {
        match self {
            Self::NotPinned => io::Error::new(io::ErrorKind::NotFound, "it is not pinned"),
            Self::NoDatapath => io::Error::new(
                io::ErrorKind::NotFound,
                "nothing is pinned at --bpffs: start `mesh-agent run`, or name the directory it was told",
            ),
            Self::Denied => io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the pins are their owner's: run it as root",
            ),
        }
    }
}

impl Reader {
    /// Opens the pins in a directory; those that are missing, or of a layout that this binary does not know, are left
    /// out and read as `NotFound`.
    #[must_use]
    pub fn of_pins(bpffs: &Path) -> Self {
        let pins = Pins::at(bpffs);
        let absent = match std::fs::read_dir(bpffs) {
            Ok(_) => Absent::NotPinned,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Absent::Denied,
            Err(_) => Absent::NoDatapath,
        };
        let mut maps = BTreeMap::new();
        for spec in &MAPS {
            let map = sys::object_get(&pins.map(spec)).and_then(RawMap::open);
            if let Ok(map) = map
                && fit(spec, map.info().max_entries, map.info()) == Fit::Same
            {
                maps.insert(spec.name, map);
            }
        }
        Self { maps, absent }
    }

    /// Maps whose shapes have been found to fit.
    pub(super) const fn new(maps: BTreeMap<&'static str, RawMap>) -> Self {
        let absent = Absent::NotPinned;
        Self { maps, absent }
    }

    pub(super) fn of_maps<'a>(
        maps: impl Iterator<Item = (&'static str, &'a RawMap)>,
    ) -> Result<Self, DatapathError> {
        let mut own = BTreeMap::new();
        for (name, map) in maps {
            let copy = map.fd().try_clone_to_owned().and_then(RawMap::open);
            own.insert(name, copy.map_err(DatapathError::map("open", name))?);
        }
        Ok(Self::new(own))
    }

    /// The maps that are there.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        MAPS.iter()
            .map(|spec| spec.name)
            .filter(|name| self.maps.contains_key(name))
    }

    pub(super) fn map(&self, name: &'static str) -> Result<&RawMap, DatapathError> {
        self.maps
            .get(name)
            .ok_or_else(|| self.absent.error())
            .map_err(DatapathError::map("read", name))
    }

    fn entries<K: Plain, V: Plain>(
        &self,
        name: &'static str,
    ) -> Result<Vec<(K, V)>, DatapathError> {
        let entries = self
            .map(name)?
            .entries()
            .map_err(DatapathError::map("read", name))?;
        entries
            .iter()
            .map(|(key, value)| Some((from_bytes(key)?, from_bytes(value)?)))
            .collect::<Option<_>>()
            .ok_or_else(|| io::Error::other("its entries are of another size"))
            .map_err(DatapathError::map("read", name))
    }

    /// The words of an array and how many make a value. The map's memory is read in place: a million slots are not
    /// copied to find the few in use.
    pub(super) fn words(&self, name: &'static str) -> Result<(Words, usize), DatapathError> {
        let map = self.map(name)?;
        let words = Words::map(map.fd()).map_err(DatapathError::map("read", name))?;
        Ok((words, map.info().value_size as usize / 8))
    }

    /// The values of an array, by index, cut off after the last that is not all zeros.
    fn array<V: Plain>(&self, name: &'static str) -> Result<Vec<V>, DatapathError> {
        let (words, size) = self.words(name)?;
        let last = (0..words.count())
            .rev()
            .find(|index| words.load(*index) != 0);
        let used = last.map_or(0, |last| last / size + 1);
        (0..used)
            .map(|index| value(&words, size, index))
            .collect::<Option<_>>()
            .ok_or_else(other_size)
            .map_err(DatapathError::map("read", name))
    }

    /// Every entry of `frontends`.
    ///
    /// # Errors
    /// If the map is not there or cannot be read; so for all that follow.
    pub fn frontends(&self) -> Result<Vec<(FrontendKey, FrontendValue)>, DatapathError> {
        self.entries("frontends")
    }

    /// Every key of `source_ranges`; none where an earlier release, which had no such map, pinned the others.
    fn source_ranges(&self) -> Result<Vec<SourceRangeKey>, DatapathError> {
        if !self.maps.contains_key("source_ranges") {
            return Ok(Vec::new());
        }
        let entries: Vec<(SourceRangeKey, u32)> = self.entries("source_ranges")?;
        Ok(entries.into_iter().map(|(key, _)| key).collect())
    }

    /// Every entry of `affinity`.
    ///
    /// # Errors
    /// As above.
    pub fn affinity(&self) -> Result<Vec<(AffinityKey, AffinityValue)>, DatapathError> {
        self.entries("affinity")
    }

    /// The addresses of `interfaces` and `late_interfaces`, by the interface's index.
    ///
    /// # Errors
    /// As above.
    pub fn interfaces(&self) -> Result<BTreeMap<u32, Interface>, DatapathError> {
        let early = self.array::<Interface>("interfaces")?.into_iter();
        let mut interfaces: BTreeMap<u32, Interface> = (0..).zip(early).collect();
        interfaces.extend(self.entries::<u32, Interface>("late_interfaces")?);
        interfaces
            .retain(|_, interface| [false, true].map(|v4| interface.address(v4)) != [None; 2]);
        Ok(interfaces)
    }

    /// Every entry of `clients`, by the cookie of the namespace.
    ///
    /// # Errors
    /// As above.
    pub fn clients(&self) -> Result<BTreeMap<u64, ClientAddresses>, DatapathError> {
        Ok(self.entries("clients")?.into_iter().collect())
    }

    /// Every entry of `learned_clients`, by the cookie of the namespace; none where an earlier release, which had no such
    /// map, pinned the others.
    ///
    /// # Errors
    /// As above.
    pub fn learned_clients(&self) -> Result<BTreeMap<u64, LearnedClient>, DatapathError> {
        if !self.maps.contains_key("learned_clients") {
            return Ok(BTreeMap::new());
        }
        Ok(self.entries("learned_clients")?.into_iter().collect())
    }

    /// Every entry of `sockets`.
    ///
    /// # Errors
    /// As above.
    pub fn sockets(&self) -> Result<Vec<(SocketKey, SocketValue)>, DatapathError> {
        self.entries("sockets")
    }

    /// The connected sockets of `peers`.
    ///
    /// # Errors
    /// As above.
    pub fn peers(&self) -> Result<Vec<Peer>, DatapathError> {
        Ok(self.connections()?.peers().collect())
    }

    /// The counters, summed over the CPUs.
    ///
    /// # Errors
    /// As above.
    pub fn counters(&self) -> Result<Vec<(Counter, u64)>, DatapathError> {
        let map = self.map("counters")?;
        let mut sums = Vec::new();
        for counter in Counter::ALL {
            let value = map
                .lookup(&counter.index().to_ne_bytes())
                .map_err(DatapathError::map("read", "counters"))?
                .unwrap_or_default();
            let sum = value
                .chunks_exact(8)
                .filter_map(from_bytes::<u64>)
                .fold(0, u64::wrapping_add);
            sums.push((counter, sum));
        }
        Ok(sums)
    }

    /// `backends`, of this version or the one before.
    fn backends(&self) -> Result<Vec<Backend>, DatapathError> {
        #[cfg(feature = "layout-next")]
        if self.map("backends")?.info().value_size as usize == size_of::<mesh_common::BackendV1>() {
            let old: Vec<mesh_common::BackendV1> = self.array("backends")?;
            return Ok(old.into_iter().map(Backend::from).collect());
        }
        self.array("backends")
    }

    /// The derived maps, whole.
    ///
    /// # Errors
    /// As above.
    pub fn tables(&self) -> Result<TableDump, DatapathError> {
        let slots: Vec<u64> = self.array("slots")?;
        let slot = |word: &u64| u32::try_from(*word).unwrap_or(0);
        Ok(TableDump {
            frontends: self.frontends()?,
            services: typed(&self.array("services")?, ServiceWord::from_word),
            sets: typed(&self.array("sets")?, SetWord::from_word),
            slots: slots.iter().map(slot).collect(),
            backends: self.backends()?,
            ranges: self.source_ranges()?,
        })
    }

    /// Entries of a map in use: keys of a hash, values of an array that are not all zeros.
    ///
    /// # Errors
    /// As above.
    pub fn used(&self, name: &'static str) -> Result<u64, DatapathError> {
        if name == "counters" {
            return Ok(u64::from(COUNTERS));
        }
        if is_flow_table(name) {
            return Ok(self.flow_lines()?.used());
        }
        if spec(name).is_some_and(|spec| spec.shape == MapShape::MappedArray) {
            let (words, size) = self.words(name)?;
            let is_used = |index: &usize| {
                (index * size..(index + 1) * size).any(|word| words.load(word) != 0)
            };
            return Ok((0..words.count() / size).filter(is_used).count() as u64);
        }
        let mut count = 0;
        self.map(name)?
            .for_each(&mut |_, _| count += 1)
            .map_err(DatapathError::map("read", name))?;
        Ok(count)
    }

    /// Kernel memory that a map takes, as its descriptor's fdinfo says (`memlock`).
    ///
    /// # Errors
    /// As above.
    pub fn bytes(&self, name: &'static str) -> Result<u64, DatapathError> {
        sys::map_memory(self.map(name)?.fd().as_fd()).map_err(DatapathError::map("read", name))
    }

    /// Entries that a map has room for.
    ///
    /// # Errors
    /// If the map is not there.
    pub fn capacity(&self, name: &'static str) -> Result<u64, DatapathError> {
        let entries = u64::from(self.map(name)?.info().max_entries);
        if is_flow_table(name) {
            return Ok(entries * u64::from(FLOW_WAYS));
        }
        Ok(entries)
    }
}

/// What has lines of flows for values.
fn is_flow_table(name: &str) -> bool {
    spec(name).is_some_and(|spec| spec.value.name == FlowLine::LAYOUT.name)
}

fn typed<T>(words: &[u64], from: impl Fn(u64) -> T) -> Vec<T> {
    words.iter().copied().map(from).collect()
}

/// A value of an array; None if values are of another size.
fn value<V: Plain>(words: &Words, size: usize, index: usize) -> Option<V> {
    let words = (index * size..(index + 1) * size).map(|word| words.load(word));
    from_bytes(&words.flat_map(u64::to_ne_bytes).collect::<Vec<u8>>())
}

pub(super) fn other_size() -> io::Error {
    io::Error::other("its values are of another size")
}
