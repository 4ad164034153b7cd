//! Tables that cannot be taken over as they are, because size or layout changed: what they hold is copied into the new
//! ones, so that service and backend ids keep their meaning for what sockets and clients remember.

use std::{collections::BTreeMap, os::fd::AsFd};

use mesh_common::{Address, MAPS, MapKind, MapSpec};

use super::{
    DatapathError, Reader, Sizes,
    maps::Maps,
    pins::Pins,
    shape::{Fit, fit},
    sys::{self, RawMap},
};
use crate::{
    apply::MapWriter,
    plan::{TableDump, Write},
};

/// The table that may be missing.
const RANGES: &str = "source_ranges";

/// What the tables in force hold, if this binary can read all of them and the new ones have room for it. `in_force`
/// are the maps of the program in force: pins that it does not use tell nothing.
pub(super) fn tables(pins: &Pins, in_force: &[u32], sizes: &Sizes) -> Option<TableDump> {
    let mut maps = BTreeMap::new();
    for spec in MAPS.iter().filter(|spec| spec.kind == MapKind::Derived) {
        match table(pins, spec, in_force) {
            Some(map) => maps.insert(spec.name, map),
            // The first release had none.
            None if spec.name == RANGES && pins.versions(RANGES).ok()?.is_empty() => None,
            None => return None,
        };
    }
    let dump = Reader::new(maps).tables().ok()?;
    has_room(&dump, sizes).then_some(dump)
}

/// The pinned table that the program in force uses, of this version or one that can be converted.
fn table(pins: &Pins, spec: &MapSpec, in_force: &[u32]) -> Option<RawMap> {
    let versions = pins.versions(spec.name).ok()?;
    let known = versions
        .into_iter()
        .filter(|version| *version <= spec.version);
    known.rev().find_map(|version| {
        let fd = sys::object_get(&pins.version(spec.name, version)).ok()?;
        let info = sys::map_info(fd.as_fd()).ok()?;
        let readable = if version == spec.version {
            fit(spec, info.max_entries, &info) == Fit::Same
        } else {
            is_version_before(spec, info)
        };
        if !readable || !in_force.contains(&info.id) {
            return None;
        }
        RawMap::open(fd).ok()
    })
}

/// Whether a map has the layout that this one had a version ago.
#[cfg(feature = "layout-next")]
fn is_version_before(spec: &MapSpec, info: sys::MapInfo) -> bool {
    use mesh_common::BackendV1;
    let value_size = u32::try_from(size_of::<BackendV1>()).unwrap_or(0);
    let before = sys::MapInfo {
        value_size,
        ..super::shape::wanted(spec, info.max_entries)
    };
    spec.name == "backends" && before == sys::MapInfo { id: 0, ..info }
}

/// There is no version before the first.
#[cfg(not(feature = "layout-next"))]
const fn is_version_before(_: &MapSpec, _: sys::MapInfo) -> bool {
    false
}

fn has_room(dump: &TableDump, sizes: &Sizes) -> bool {
    let room = |name: &str, used: usize| {
        let spec = MAPS.iter().find(|spec| spec.name == name);
        spec.is_some_and(|spec| used <= sizes.entries(spec) as usize)
    };
    room("frontends", dump.frontends.len())
        && room("services", dump.services.len())
        && room("sets", dump.sets.len())
        && room("slots", dump.slots.len())
        && room("backends", dump.backends.len())
        && room(RANGES, dump.ranges.len())
}

/// Writes what was held into new tables, which nobody reads yet.
pub(super) fn fill(maps: &mut Maps, dump: &TableDump) -> Result<(), DatapathError> {
    for write in writes(dump) {
        maps.write(&write).map_err(|error| {
            let map = error.map();
            DatapathError::map("fill", map)(std::io::Error::other(error))
        })?;
    }
    Ok(())
}

/// The writes that make a dump out of nothing.
fn writes(dump: &TableDump) -> impl Iterator<Item = Write> {
    let used = dump.backends.iter().zip(0..).filter(|(backend, _)| {
        backend.word().word() != 0 || backend.address() != Address::UNSPECIFIED
    });
    let backends = used.map(|(backend, id)| Write::PutBackend(id, *backend));
    let slots = dump.slots.iter().zip(0..).filter(|(id, _)| **id != 0);
    let slots = slots.map(|(id, slot)| Write::StoreSlot(slot, *id));
    let sets = dump.sets.iter().zip(0..).filter(|(set, _)| set.word() != 0);
    let sets = sets.map(|(word, set)| Write::StoreSet(set, *word));
    let services = dump
        .services
        .iter()
        .zip(0..)
        .filter(|(service, _)| service.word() != 0);
    let services = services.map(|(word, id)| Write::StoreService(id, *word));
    let ranges = dump.ranges.iter().map(|key| Write::PutRange(*key));
    let frontends = dump.frontends.iter();
    let frontends = frontends.map(|(key, value)| Write::PutFrontend(*key, *value));
    backends
        .chain(slots)
        .chain(sets)
        .chain(services)
        .chain(ranges)
        .chain(frontends)
}
