//! Start: what is pinned is measured, taken over or left aside, and the object is loaded. Nothing that is in force is
//! touched before `commit`.

use std::{
    collections::BTreeMap,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use mesh_common::{BEFORE, MAPS, MapKind, MapSpec};

use super::{
    Datapath, DatapathError, Finding, Opened, Options,
    hooks::LAST,
    inherit,
    links::{self, Cgroup},
    load::load,
    maps::Maps,
    pins::Pins,
    probe,
    shape::{Fit, fit, wanted},
    sys,
};

/// Opens the datapath.
pub(super) fn open(options: &Options) -> Result<Opened, DatapathError> {
    let cgroup = Cgroup::open(&options.cgroup)?;
    let pins = Pins::prepare(&options.bpffs)?;
    let mut findings = Vec::new();
    let in_force = links::program_in_force(&pins, &LAST).map(|program| program.maps);
    let mut taken = choose(&pins, options, in_force.as_deref(), &mut findings)?;
    let keeps_tables = taken.contains_key(TABLE);
    let inherited = match &in_force {
        Some(maps) if !keeps_tables => inherit::tables(&pins, maps, &options.sizes),
        _ => None,
    };
    let keeps_ids = keeps_tables || inherited.is_some();
    let is_downgrade = is_downgrade(&pins)?;
    if !keeps_ids {
        forget_ids(&mut taken, is_downgrade, &mut findings);
    }
    let before = before(&pins)?;
    if probe::counts_memlock()
        && let Err(error) = sys::raise_memlock()
    {
        findings.push(Finding::Memlock(error.to_string()));
    }
    let loaded = load(options, &taken, before.as_deref(), keeps_ids)?;
    let mut datapath = Datapath {
        pins,
        cgroup,
        programs: loaded.programs,
        packet: loaded.packet,
        maps: Maps::new(loaded.maps)?,
        taken: taken.into_keys().collect(),
        is_downgrade,
        forgets_choices: !keeps_ids,
    };
    let dump = match inherited {
        Some(dump) => {
            inherit::fill(&mut datapath.maps, &dump)?;
            Some(dump)
        }
        None if keeps_tables => Some(datapath.reader()?.tables()?),
        None => None,
    };
    Ok(Opened {
        datapath,
        dump,
        findings,
    })
}

/// One of the tables: they are taken over together or not at all.
const TABLE: &str = "sets";

/// New tables give out ids anew: what remembers the old ones must start empty, or it would lead to the endpoints of
/// other Services. `peers` may stay, because its ids lead nowhere. So may `sockets` after a downgrade: the programs in
/// force write into their own version, and the choices in ours are deleted before ours are switched on.
fn forget_ids(
    taken: &mut BTreeMap<&'static str, PathBuf>,
    is_downgrade: bool,
    findings: &mut Vec<Finding>,
) {
    for map in ["affinity", "sockets"] {
        if map == "sockets" && is_downgrade {
            continue;
        }
        if taken.remove(map).is_some() {
            findings.push(Finding::Forgotten { map });
        }
    }
}

/// Whether a later version of a flow map is pinned than this binary has.
fn is_downgrade(pins: &Pins) -> Result<bool, DatapathError> {
    for spec in MAPS.iter().filter(|spec| spec.kind == MapKind::Flow) {
        if pins
            .versions(spec.name)?
            .into_iter()
            .any(|version| version > spec.version)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The pin of the flow map's version before, if it has the shape that version had.
fn before(pins: &Pins) -> Result<Option<PathBuf>, DatapathError> {
    let Some(before) = BEFORE else {
        return Ok(None);
    };
    let path = pins.version(before.map, before.version);
    if !path.exists() {
        return Ok(None);
    }
    let spec = MAPS.iter().find(|spec| spec.name == before.map);
    let fits = measure(&path)?.zip(spec).is_some_and(|(info, spec)| {
        let wanted = wanted(spec, info.max_entries);
        (info.kind, info.flags, info.key_size) == (wanted.kind, wanted.flags, wanted.key_size)
            && info.value_size as usize == before.value_size
    });
    Ok(fits.then_some(path))
}

/// Which pins are taken over.
fn choose(
    pins: &Pins,
    options: &Options,
    in_force: Option<&[u32]>,
    findings: &mut Vec<Finding>,
) -> Result<BTreeMap<&'static str, PathBuf>, DatapathError> {
    let mut taken = BTreeMap::new();
    let mut tables_fit = true;
    for spec in &MAPS {
        let fits = take(pins, spec, options, findings)?;
        let used = fits.is_some_and(|id| in_force.is_none_or(|maps| maps.contains(&id)));
        match (spec.kind, fits, used) {
            // The tables are of use together alone: ids in one point into the next.
            (MapKind::Derived, _, false) => tables_fit = false,
            (MapKind::Flow | MapKind::Counter, None, _) => {}
            (MapKind::Derived | MapKind::Flow | MapKind::Counter, _, _) => {
                taken.insert(spec.name, pins.map(spec));
            }
        }
    }
    if !tables_fit {
        taken.retain(|name, _| {
            MAPS.iter()
                .any(|spec| spec.name == *name && spec.kind != MapKind::Derived)
        });
    }
    Ok(taken)
}

/// The id of a pinned map that can be taken over.
fn take(
    pins: &Pins,
    spec: &MapSpec,
    options: &Options,
    findings: &mut Vec<Finding>,
) -> Result<Option<u32>, DatapathError> {
    let path = pins.map(spec);
    if !path.exists() {
        return Ok(None);
    }
    let info = measure(&path)?;
    let wanted = options.sizes.entries(spec);
    let verdict = info
        .as_ref()
        .map_or(Fit::Wrong, |info| fit(spec, wanted, info));
    let id = info.map(|info| info.id);
    match (verdict, spec.kind) {
        (Fit::Same, _) => Ok(id),
        (Fit::Wrong, _) => {
            findings.push(Finding::WrongShape {
                map: spec.name,
                pin: path,
            });
            Ok(None)
        }
        (Fit::OtherSize(found), MapKind::Derived) => {
            findings.push(Finding::Resized {
                map: spec.name,
                from: found,
                to: wanted,
            });
            Ok(None)
        }
        (Fit::OtherSize(found), MapKind::Flow | MapKind::Counter) => {
            findings.push(Finding::KeptSize {
                map: spec.name,
                kept: found,
                wanted,
            });
            Ok(id)
        }
    }
}

/// What is pinned; None if it is no map, which is as wrong as a map of another shape.
fn measure(path: &Path) -> Result<Option<sys::MapInfo>, DatapathError> {
    let object = sys::object_get(path).map_err(DatapathError::path("cannot open the pin", path))?;
    Ok(sys::map_info(object.as_fd()).ok())
}
