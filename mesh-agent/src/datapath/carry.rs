//! What sockets remember, carried over to a new layout: entries of an older version of `sockets` are converted one by
//! one. It is done twice, before and after the hooks are switched, because the old programs write into the old map
//! until then. Other flow maps of a new layout start empty: affinity is balanced anew.

use std::collections::BTreeSet;

use mesh_common::{SocketKey, bytes_of, from_bytes};

use super::{Datapath, DatapathError, pins::Pins, shape::spec, sys, sys::RawMap};

const MAP: &str = "sockets";

/// BPF_NOEXIST: what the new programs have written is newer.
const UNLESS_THERE: u64 = 1;

/// Keys that were carried over before. An entry among them that is gone from the new map was taken away there, and is
/// not brought back.
#[derive(Debug, Default)]
pub(super) struct Carried(BTreeSet<SocketKey>);

/// Carries over what older versions hold and was not carried before.
pub(super) fn sockets(datapath: &Datapath, carried: &mut Carried) -> Result<(), DatapathError> {
    // Ids that are given out anew must not be mistaken for those that these entries hold.
    if !datapath.keeps_ids {
        return Ok(());
    }
    let new = datapath
        .maps
        .raw(MAP)
        .map_err(DatapathError::map("fill", MAP))?;
    for old in older(&datapath.pins)? {
        for (key, value) in old.entries().map_err(DatapathError::map("read", MAP))? {
            let (Some(key), Some(value)) = (from_bytes::<SocketKey>(&key), convert(&value)) else {
                continue;
            };
            if !carried.0.insert(key) {
                continue;
            }
            match new.update(bytes_of(&key), &value, UNLESS_THERE) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                result => result.map_err(DatapathError::map("fill", MAP))?,
            }
        }
    }
    Ok(())
}

/// Pinned maps of older versions whose layout this binary can convert.
fn older(pins: &Pins) -> Result<Vec<RawMap>, DatapathError> {
    let Some(spec) = spec(MAP) else {
        return Ok(Vec::new());
    };
    let mut maps = Vec::new();
    for version in pins
        .versions(MAP)?
        .into_iter()
        .filter(|version| *version < spec.version)
    {
        let path = pins.version(MAP, version);
        let map = sys::object_get(&path)
            .and_then(RawMap::open)
            .map_err(DatapathError::path("cannot open the pin", &path))?;
        let info = map.info();
        if info.kind == 1
            && info.key_size as usize == size_of::<SocketKey>()
            && info.value_size as usize == OLD_SIZE
        {
            maps.push(map);
        }
    }
    Ok(maps)
}

#[cfg(feature = "layout-next")]
const OLD_SIZE: usize = size_of::<mesh_common::SocketValueV1>();

/// A value of the version before, as this version has it.
#[cfg(feature = "layout-next")]
fn convert(old: &[u8]) -> Option<Vec<u8>> {
    let old: mesh_common::SocketValueV1 = from_bytes(old)?;
    Some(bytes_of(&mesh_common::SocketValue::from(old)).to_vec())
}

/// There is no version before the first.
#[cfg(not(feature = "layout-next"))]
const OLD_SIZE: usize = size_of::<mesh_common::SocketValue>();

#[cfg(not(feature = "layout-next"))]
fn convert(old: &[u8]) -> Option<Vec<u8>> {
    Some(old.to_vec())
}
