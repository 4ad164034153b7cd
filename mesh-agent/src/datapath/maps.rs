//! The maps in force, written: words by one store into mapped memory, records by system calls. Each operation is
//! counted by map, word and outcome.

use std::{collections::BTreeMap, io};

use mesh_common::{
    Address, Backend, ClientAddresses, EARLY_INTERFACES, Interface, SocketKey, bytes_of,
};

use super::{
    DatapathError,
    sys::{self, RawMap, Words},
};
use crate::{
    apply::{MapWriter, WriteError},
    plan::Write,
};

/// That a range is there is all that it says.
const IN_RANGE: u32 = 1;

/// What was done to a map, as `mesh_agent_map_operations_total` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A system call that writes an entry.
    Update,
    /// A system call that deletes one.
    Delete,
    /// A system call that reads entries.
    Lookup,
    /// A store into mapped memory.
    Store,
}

impl Operation {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Lookup => "lookup",
            Self::Store => "store",
        }
    }
}

/// How often each operation was done on each map, and whether it worked.
pub type Operations = BTreeMap<(&'static str, Operation, bool), u64>;

/// The maps in force.
#[derive(Debug)]
pub struct Maps {
    raw: BTreeMap<&'static str, RawMap>,
    services: Words,
    sets: Words,
    slots: Words,
    backends: Words,
    operations: Operations,
}

impl Maps {
    pub(super) fn new(raw: BTreeMap<&'static str, RawMap>) -> Result<Self, DatapathError> {
        let words = |name| {
            let map = of(&raw, name).map_err(DatapathError::map("map", name))?;
            Words::map(map.fd()).map_err(DatapathError::map("map", name))
        };
        Ok(Self {
            services: words("services")?,
            sets: words("sets")?,
            slots: words("slots")?,
            backends: words("backends")?,
            raw,
            operations: Operations::new(),
        })
    }

    pub(super) fn raw(&self, name: &'static str) -> io::Result<&RawMap> {
        of(&self.raw, name)
    }

    /// Entries that a map has room for; 0 for a name that is no map's.
    #[must_use]
    pub fn capacity(&self, name: &str) -> u32 {
        self.raw.get(name).map_or(0, |map| map.info().max_entries)
    }

    /// What was done so far.
    #[must_use]
    pub const fn operations(&self) -> &Operations {
        &self.operations
    }

    fn count(&mut self, map: &'static str, operation: Operation, worked: bool) {
        *self.operations.entry((map, operation, worked)).or_default() += 1;
    }

    fn store(&mut self, map: &'static str, index: usize, word: u64) -> Result<(), WriteError> {
        let words = match map {
            "services" => &self.services,
            "sets" => &self.sets,
            "slots" => &self.slots,
            _ => &self.backends,
        };
        let worked = words.store(index, word);
        self.count(map, Operation::Store, worked);
        if worked {
            Ok(())
        } else {
            Err(WriteError::Full { map })
        }
    }

    pub(super) fn put(
        &mut self,
        map: &'static str,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), WriteError> {
        let result = self.raw(map).and_then(|raw| raw.update(key, value, 0));
        self.count(map, Operation::Update, result.is_ok());
        result.map_err(|source| refused(map, source))
    }

    /// That the entry is not there is what was wanted.
    pub(super) fn delete(&mut self, map: &'static str, key: &[u8]) -> Result<(), WriteError> {
        let result = match self.raw(map).and_then(|raw| raw.delete(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        self.count(map, Operation::Delete, result.is_ok());
        result.map_err(|source| WriteError::Io { map, source })
    }

    /// Writes an interface's addresses. A new flow that reads them at this very moment may get half of an IPv6 address that
    /// is no longer the interface's and half of the next.
    ///
    /// # Errors
    /// If the kernel refuses, as when the map is full.
    pub fn put_interface(&mut self, index: u32, value: &Interface) -> Result<(), WriteError> {
        self.put(interfaces(index), bytes_of(&index), bytes_of(value))
    }

    /// Forgets an interface.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn delete_interface(&mut self, index: u32) -> Result<(), WriteError> {
        if index < EARLY_INTERFACES {
            let nothing = Interface::new(Address::UNSPECIFIED, Address::UNSPECIFIED);
            return self.put_interface(index, &nothing);
        }
        self.delete(interfaces(index), bytes_of(&index))
    }

    /// Writes the addresses of a network namespace.
    ///
    /// # Errors
    /// If the kernel refuses, as when the map is full.
    pub fn put_client(&mut self, cookie: u64, value: &ClientAddresses) -> Result<(), WriteError> {
        self.put("clients", bytes_of(&cookie), bytes_of(value))
    }

    /// Forgets a network namespace.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn delete_client(&mut self, cookie: u64) -> Result<(), WriteError> {
        self.delete("clients", bytes_of(&cookie))
    }

    /// Deletes entries of `sockets` that a sweep found dead.
    ///
    /// # Errors
    /// At the first that the kernel refuses.
    pub fn delete_sockets(&mut self, keys: &[SocketKey]) -> Result<(), WriteError> {
        keys.iter()
            .try_for_each(|key| self.delete("sockets", bytes_of(key)))
    }

    /// Forgets what connections of these namespaces, by their cookies, have shown.
    ///
    /// # Errors
    /// At the first that the kernel refuses.
    pub fn delete_learned_clients(&mut self, cookies: &[u64]) -> Result<(), WriteError> {
        cookies
            .iter()
            .try_for_each(|cookie| self.delete("learned_clients", bytes_of(cookie)))
    }
}

impl MapWriter for Maps {
    fn write(&mut self, write: &Write) -> Result<(), WriteError> {
        match write {
            Write::PutBackend(id, backend) => self.put("backends", bytes_of(id), bytes_of(backend)),
            Write::StoreBackendWord(id, word) => {
                self.store("backends", backend_word(*id), word.word())
            }
            Write::StoreSlot(slot, id) => self.store("slots", *slot as usize, u64::from(*id)),
            Write::StoreSet(set, word) => self.store("sets", *set as usize, word.word()),
            Write::StoreService(id, word) => self.store("services", *id as usize, word.word()),
            Write::PutFrontend(key, value) => self.put("frontends", bytes_of(key), bytes_of(value)),
            Write::DeleteFrontend(key) => self.delete("frontends", bytes_of(key)),
            Write::PutRange(key) => self.put("source_ranges", bytes_of(key), bytes_of(&IN_RANGE)),
            Write::DeleteRange(key) => self.delete("source_ranges", bytes_of(key)),
        }
    }

    fn grace(&mut self) -> Result<(), WriteError> {
        sys::rcu_grace_period().map_err(|source| WriteError::Io {
            map: "frontends",
            source,
        })
    }
}

/// The map that has an interface.
const fn interfaces(index: u32) -> &'static str {
    if index < EARLY_INTERFACES {
        "interfaces"
    } else {
        "late_interfaces"
    }
}

/// Index among the words of `backends` of a backend's word.
const fn backend_word(id: u32) -> usize {
    id as usize * (size_of::<Backend>() / 8) + Backend::WORD_OFFSET / 8
}

const _: () =
    assert!(size_of::<Backend>().is_multiple_of(8) && Backend::WORD_OFFSET.is_multiple_of(8));

/// An index beyond the end of an array is E2BIG; a hash without room too, or ENOMEM or ENOSPC.
fn refused(map: &'static str, source: io::Error) -> WriteError {
    match source.raw_os_error() {
        Some(libc::E2BIG | libc::ENOSPC | libc::ENOMEM) => WriteError::Full { map },
        _ => WriteError::Io { map, source },
    }
}

fn of<'a>(raw: &'a BTreeMap<&'static str, RawMap>, name: &'static str) -> io::Result<&'a RawMap> {
    raw.get(name)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is not loaded"))
}
