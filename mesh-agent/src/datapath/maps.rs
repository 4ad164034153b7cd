//! The maps: words stored into mapped arrays, records and frontends by system calls, dumps.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use mesh_common::{
    AffinityKey, AffinityValue, Backend, BackendWord, COUNTERS, Counter, FrontendKey,
    FrontendValue, MAPS, MapSpec, Peer, ServiceWord, SetWord, SocketKey, SocketValue,
};

use super::{
    DatapathError,
    operations::{Operation, Operations},
    pins::Pins,
    sys::{self, Words},
};
use crate::{
    apply::{MapWriter, WriteError},
    plan::{TableDump, Write},
    telemetry::{MapFigures, SocketCounts},
};

/// Words of a backend's record: four of address, two of which fit a u64 each, and the state's.
const BACKEND_WORDS: usize = size_of::<Backend>() / 8;
const STATE_WORD: usize = Backend::WORD_OFFSET / 8;

/// All maps, open.
pub struct Maps {
    frontends: HashMap<MapData, FrontendKey, FrontendValue>,
    services: Words,
    sets: Words,
    slots: Words,
    backends: Array<MapData, Backend>,
    backend_words: Words,
    flows: SocketTables,
    figures: Vec<Figure>,
    operations: Arc<Operations>,
}

/// The maps that traffic makes.
pub struct SocketTables {
    affinity: HashMap<MapData, AffinityKey, AffinityValue>,
    sockets: HashMap<MapData, SocketKey, SocketValue>,
    peers: Array<MapData, Peer>,
    peer_cookies: PathBuf,
    counters: PerCpuArray<MapData, u64>,
}

/// What a map is asked for when somebody scrapes.
struct Figure {
    spec: &'static MapSpec,
    fd: std::os::fd::OwnedFd,
    capacity: u32,
    bytes: u64,
}

impl Maps {
    /// Opens every map where it is pinned.
    pub(super) fn open(
        path: &dyn Fn(&MapSpec) -> PathBuf,
        operations: Arc<Operations>,
    ) -> Result<Self, DatapathError> {
        let words = |name| mapped(name, &path(spec(name)));
        Ok(Self {
            frontends: hash("frontends", &path(spec("frontends")))?,
            services: words("services")?,
            sets: words("sets")?,
            slots: words("slots")?,
            backends: typed("backends", &path(spec("backends")))?,
            backend_words: words("backends")?,
            flows: SocketTables::open(path)?,
            figures: MAPS
                .iter()
                .map(|spec| figure(spec, &path(spec)))
                .collect::<Result<_, _>>()?,
            operations,
        })
    }

    /// Opens the maps that an agent has pinned, after a look at their shapes; for commands.
    ///
    /// # Errors
    /// There are none, or they are another version's.
    pub fn pinned(bpffs: &Path) -> Result<Self, DatapathError> {
        let pins = Pins::new(bpffs);
        for spec in &MAPS {
            if !pins.fits(spec)? {
                return Err(DatapathError::NotPinned {
                    map: spec.name,
                    path: bpffs.to_owned(),
                });
            }
        }
        Self::open(&|spec| pins.map(spec), Arc::default())
    }

    /// The counts of operations, shared.
    #[must_use]
    pub fn operations(&self) -> Arc<Operations> {
        Arc::clone(&self.operations)
    }

    /// The derived maps, whole.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn tables(&self) -> Result<TableDump, DatapathError> {
        let all = |words: &Words| {
            (0..words.count())
                .map(|index| words.load(index))
                .collect::<Vec<u64>>()
        };
        let backends = (0..self.backend_words.count() / BACKEND_WORDS).map(|id| self.backend(id));
        Ok(TableDump {
            frontends: collect("frontends", self.frontends.iter())?,
            services: all(&self.services)
                .into_iter()
                .map(ServiceWord::from_word)
                .collect(),
            sets: all(&self.sets)
                .into_iter()
                .map(SetWord::from_word)
                .collect(),
            slots: all(&self.slots).into_iter().map(|id| id as u32).collect(),
            backends: backends.collect(),
        })
    }

    fn backend(&self, id: usize) -> Backend {
        let word = |place: usize| {
            self.backend_words
                .load(id * BACKEND_WORDS + place)
                .to_ne_bytes()
        };
        let mut bytes = [0; size_of::<Backend>()];
        for (place, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&word(place));
        }
        mesh_common::from_bytes(&bytes).unwrap_or(Backend::new(
            mesh_common::Address::UNSPECIFIED,
            BackendWord::from_word(0),
        ))
    }

    /// The maps that traffic makes.
    #[must_use]
    pub fn flows(&self) -> &SocketTables {
        &self.flows
    }

    /// The same, to be changed.
    pub fn flows_mut(&mut self) -> &mut SocketTables {
        &mut self.flows
    }

    /// Entries, capacity and memory of each map. Entries of derived maps are counted by whoever plans them.
    #[must_use]
    pub fn figures(&self) -> Vec<MapFigures> {
        self.figures.iter().map(Figure::read).collect()
    }

    fn count(&self, write: &Write, operation: Operation, ok: bool) {
        self.operations.count(write.map(), operation, ok);
    }

    fn store(&self, write: &Write) -> bool {
        let index = |id: u32| id as usize;
        match *write {
            Write::StoreBackendWord(id, word) => self
                .backend_words
                .store(index(id) * BACKEND_WORDS + STATE_WORD, word.word()),
            Write::StoreSlot(slot, id) => self.slots.store(index(slot), id.into()),
            Write::StoreSet(id, word) => self.sets.store(index(id), word.word()),
            Write::StoreService(id, word) => self.services.store(index(id), word.word()),
            Write::PutBackend(..) | Write::PutFrontend(..) | Write::DeleteFrontend(..) => false,
        }
    }
}

impl MapWriter for Maps {
    fn write(&mut self, write: &Write) -> Result<(), WriteError> {
        let (operation, result) = match write {
            Write::PutBackend(id, backend) => {
                (Operation::Update, self.backends.set(*id, backend, 0))
            }
            Write::PutFrontend(key, value) => {
                (Operation::Update, self.frontends.insert(key, value, 0))
            }
            Write::DeleteFrontend(key) => (Operation::Delete, gone(self.frontends.remove(key))),
            Write::StoreBackendWord(..)
            | Write::StoreSlot(..)
            | Write::StoreSet(..)
            | Write::StoreService(..) => {
                let stored = self.store(write);
                (
                    Operation::Store,
                    if stored { Ok(()) } else { Err(out_of_range()) },
                )
            }
        };
        self.count(write, operation, result.is_ok());
        result.map_err(|error| write_error(write.map(), &error))
    }

    fn grace(&mut self) -> Result<(), WriteError> {
        sys::rcu_grace_period().or_else(|error| {
            tracing::debug!(%error, "no membarrier: waiting a second instead, longer than any program runs");
            std::thread::sleep(std::time::Duration::from_secs(1));
            Ok(())
        })
    }
}

impl SocketTables {
    fn open(path: &dyn Fn(&MapSpec) -> PathBuf) -> Result<Self, DatapathError> {
        Ok(Self {
            affinity: hash("affinity", &path(spec("affinity")))?,
            sockets: hash("sockets", &path(spec("sockets")))?,
            peers: typed("peers", &path(spec("peers")))?,
            peer_cookies: path(spec("peer_cookies")),
            counters: typed("counters", &path(spec("counters")))?,
        })
    }

    /// Every entry of `affinity`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn affinity(&self) -> Result<Vec<(AffinityKey, AffinityValue)>, DatapathError> {
        collect("affinity", self.affinity.iter())
    }

    /// Every entry of `sockets`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sockets(&self) -> Result<Vec<(SocketKey, SocketValue)>, DatapathError> {
        collect("sockets", self.sockets.iter())
    }

    /// Every connected socket's entry.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn peers(&self) -> Result<Vec<Peer>, DatapathError> {
        let cookies = mapped("peer_cookies", &self.peer_cookies)?;
        let taken = (0..cookies.count()).filter(|place| cookies.load(*place) != 0);
        let peers =
            taken.filter_map(|place| Some((cookies.load(place), u32::try_from(place).ok()?)));
        peers
            .map(|(cookie, place)| {
                Ok((
                    cookie,
                    self.peers
                        .get(&place, 0)
                        .map_err(|error| map_error("peers", error))?,
                ))
            })
            .filter(|peer| {
                peer.as_ref()
                    .map_or(true, |(cookie, peer)| *cookie == peer.cookie())
            })
            .map(|peer: Result<_, DatapathError>| peer.map(|(_, peer)| peer))
            .collect()
    }

    /// Forgets entries of `sockets`; those that are gone already are fine.
    pub fn remove_sockets(&mut self, keys: &[SocketKey]) {
        for key in keys {
            if let Err(error) = gone(self.sockets.remove(key)) {
                tracing::warn!(%error, ?key, "an entry of `sockets` cannot be removed; it is tried again");
            }
        }
    }

    /// The datapath's counters, summed over all CPUs.
    #[must_use]
    pub fn counts(&self) -> SocketCounts {
        let sum = |counter: Counter| {
            debug_assert!(counter.index() < COUNTERS);
            self.counters
                .get(&counter.index(), 0)
                .map_or(0, |values| values.iter().sum())
        };
        Counter::ALL
            .iter()
            .map(|counter| (*counter, sum(*counter)))
            .collect()
    }
}

impl Figure {
    fn read(&self) -> MapFigures {
        let entries = match self.spec.name {
            "affinity" | "sockets" => sys::count_keys(self.fd.as_fd(), self.capacity).ok(),
            "peer_cookies" => Words::map(self.fd.as_fd()).ok().and_then(|words| {
                u64::try_from(
                    (0..words.count())
                        .filter(|place| words.load(*place) != 0)
                        .count(),
                )
                .ok()
            }),
            _ => None,
        };
        MapFigures {
            map: self.spec.name,
            entries,
            capacity: self.capacity.into(),
            bytes: self.bytes,
        }
    }
}

/// The spec of a map that is named here.
fn spec(name: &str) -> &'static MapSpec {
    MAPS.iter()
        .find(|spec| spec.name == name)
        .unwrap_or(&MAPS[0])
}

fn hash<K: aya::Pod, V: aya::Pod>(
    name: &'static str,
    path: &Path,
) -> Result<HashMap<MapData, K, V>, DatapathError> {
    typed(name, path)
}

fn typed<T: TryFrom<Map, Error = MapError>>(
    name: &'static str,
    path: &Path,
) -> Result<T, DatapathError> {
    let data = MapData::from_pin(path).map_err(|error| map_error(name, error))?;
    Map::from_map_data(data)
        .and_then(T::try_from)
        .map_err(|error| map_error(name, error))
}

fn mapped(name: &'static str, path: &Path) -> Result<Words, DatapathError> {
    let words = sys::object_get(path).and_then(|fd| Words::map(fd.as_fd()));
    words.map_err(|source| DatapathError::Map { map: name, source })
}

fn figure(spec: &'static MapSpec, path: &Path) -> Result<Figure, DatapathError> {
    let failed = |source| DatapathError::Map {
        map: spec.name,
        source,
    };
    let fd = sys::object_get(path).map_err(failed)?;
    let info = sys::map_info(fd.as_fd()).map_err(failed)?;
    Ok(Figure {
        spec,
        capacity: info.max_entries,
        bytes: locked_bytes(fd.as_fd()),
        fd,
    })
}

/// What the kernel says a map takes.
fn locked_bytes(fd: std::os::fd::BorrowedFd<'_>) -> u64 {
    use std::os::fd::AsRawFd;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
        .unwrap_or_default();
    let bytes = text
        .lines()
        .find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
    bytes.unwrap_or_default()
}

fn collect<T>(
    name: &'static str,
    entries: impl Iterator<Item = Result<T, MapError>>,
) -> Result<Vec<T>, DatapathError> {
    entries
        .collect::<Result<_, _>>()
        .map_err(|error| map_error(name, error))
}

fn map_error(map: &'static str, error: MapError) -> DatapathError {
    DatapathError::Map {
        map,
        source: io_error(error),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is no system call's error is told as it is"
)]
fn io_error(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        MapError::KeyNotFound => io::ErrorKind::NotFound.into(),
        other => io::Error::other(other),
    }
}

/// Removing what is not there is done.
fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        other => other,
    }
}

fn out_of_range() -> MapError {
    MapError::OutOfBounds {
        index: 0,
        max_entries: 0,
    }
}

/// E2BIG is how a hash that is full says so.
fn write_error(map: &'static str, error: &MapError) -> WriteError {
    if let MapError::SyscallError(error) = error {
        if error.io_error.raw_os_error() == Some(libc::E2BIG) {
            return WriteError::Full { map };
        }
        if let Some(number) = error.io_error.raw_os_error() {
            return WriteError::Io {
                map,
                source: io::Error::from_raw_os_error(number),
            };
        }
    }
    WriteError::Io {
        map,
        source: io::Error::other(error.to_string()),
    }
}
