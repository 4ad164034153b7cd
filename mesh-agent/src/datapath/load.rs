//! The eBPF object into the kernel: maps made or taken over, programs relocated, verified and loaded. Nothing here
//! attaches or pins.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData},
};
use mesh_common::{BEFORE, MAPS, SPILL_LINES};
use mesh_ebpf::IcmpLimit;

use super::{
    DatapathError, Options, Sizes,
    flows::TRUST,
    foreign,
    hooks::{HOOKS, Hook},
    object,
    packet::{self, PacketPrograms},
    probe,
    shape::{self, Fit, fit},
    sys::{self, RawMap, own_netns_cookie},
    verify::{Verified, verify},
};
use crate::snat_ports::Ports;

/// The object in the kernel.
pub(super) struct Loaded {
    /// By name; every map of `mesh_common::MAPS`, and those of each load's own: the word of `TRUST`, `foreign`.
    pub(super) maps: BTreeMap<&'static str, RawMap>,
    /// By name; every program of `HOOKS`.
    pub(super) programs: BTreeMap<&'static str, OwnedFd>,
    /// Those of packets.
    pub(super) packet: PacketPrograms,
}

/// Loads the object. `taken` are pins that have been found to fit, `before` the one of a flow map's version before;
/// every other map is made anew.
pub(super) fn load(
    options: &Options,
    taken: &BTreeMap<&'static str, PathBuf>,
    before: Option<&Path>,
    keeps_ids: bool,
) -> Result<Loaded, DatapathError> {
    let sizes = &options.sizes;
    let has_set_retval = u32::from(probe::has_set_retval());
    let mut loader = EbpfLoader::new();
    loader.override_global("HAS_SET_RETVAL", &has_set_retval, true);
    let has_coarse_clock = u32::from(probe::has_coarse_clock());
    loader.override_global("HAS_COARSE_CLOCK", &has_coarse_clock, true);
    let jiffies = probe::jiffies();
    loader.override_global("FIRST_JIFFY", &jiffies.first, true);
    loader.override_global("JIFFY", &jiffies.part, true);
    let has_sock_ops_netns = u32::from(probe::has_sock_ops_netns());
    loader.override_global("HAS_SOCK_OPS_NETNS", &has_sock_ops_netns, true);
    let host_netns = own_netns_cookie().unwrap_or(0);
    loader.override_global("HOST_NETNS", &host_netns, true);
    let before_has_ids = u32::from(keeps_ids);
    loader.override_global("BEFORE_HAS_IDS", &before_has_ids, false);
    let room = foreign::room();
    let has_foreign = u32::from(room > 1);
    loader.override_global("HAS_FOREIGN", &has_foreign, true);
    loader.map_max_entries(foreign::FOREIGN, room);
    for spec in &MAPS {
        loader.map_max_entries(spec.name, sizes.entries(spec));
        if let Some(pin) = taken.get(spec.name) {
            loader.map_pin_path(spec.name, pin.as_path());
        }
    }
    if let (Some(spec), Some(pin)) = (BEFORE, before) {
        loader.map_pin_path(spec.name, pin);
    }
    let lines = entries("flows", sizes, taken).saturating_sub(SPILL_LINES);
    loader.override_global("SPILL_LINES", &SPILL_LINES, true);
    loader.override_global("FLOW_LINES", &lines, true);
    let seed = host_number();
    loader.override_global("SEED", &seed, true);
    // Flows that stand may hold ids of tables that no longer are: `Reader::rebind_flows` says when they do not.
    loader.override_global("IDS_TRUSTED", &0_u64, true);
    let Ports { all, quiet } = options.ports;
    let ports = [
        ("SNAT_FIRST", u32::from(all.first)),
        ("SNAT_LAST", u32::from(all.last)),
        ("NODEPORT_FIRST", u32::from(all.hole_first)),
        ("NODEPORT_LAST", u32::from(all.hole_last)),
        ("LOUD_FIRST", u32::from(quiet.hole_first)),
        ("LOUD_LAST", u32::from(quiet.hole_last)),
    ];
    for (name, port) in &ports {
        loader.override_global(name, port, true);
    }
    let limit = icmp_limit();
    loader.override_global("ICMP_INTERVAL", &limit.interval, true);
    loader.override_global("ICMP_BURST", &limit.burst, true);
    let mut object = loader
        .load(object::BYTES)
        .map_err(failed("the eBPF object"))?;
    let mut verified = verify(&mut object)?;
    let loaded = Loaded {
        programs: hook_programs(&mut verified)?,
        packet: packet::load(&mut object, &mut verified)?,
        maps: open_maps(&mut object, sizes)?,
    };
    #[cfg(feature = "kernel-log")]
    super::kernel_log::follow(&mut object)?;
    Ok(loaded)
}

/// Entries that a map will have: a pin that is taken over may have others than are wanted.
fn entries(name: &str, sizes: &Sizes, taken: &BTreeMap<&'static str, PathBuf>) -> u32 {
    let pinned = taken.get(name).and_then(|pin| sys::object_get(pin).ok());
    let pinned = pinned.and_then(|map| sys::map_info(map.as_fd()).ok());
    let wanted = shape::spec(name).map_or(0, |spec| sizes.entries(spec));
    pinned.map_or(wanted, |info| info.max_entries)
}

/// The number by which flows are found and choose their backend, whichever agent has loaded the programs.
pub(crate) fn host_number() -> u32 {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    mesh_common::host_number(&boot_id.unwrap_or_default())
}

/// As many ICMP errors as the host allows itself. Older kernels tell that in their first network namespace alone; elsewhere
/// it is as many as they allow by default.
fn icmp_limit() -> IcmpLimit {
    let of = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/{name}");
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().parse::<u32>().ok()
    };
    let default = IcmpLimit::default();
    let interval = |a_second| 1_000_000_000_u32.checked_div(a_second).unwrap_or(u32::MAX);
    IcmpLimit {
        interval: of("icmp_msgs_per_sec").map_or(default.interval, interval),
        burst: of("icmp_msgs_burst").unwrap_or(default.burst),
    }
}

fn hook_programs(
    verified: &mut Verified,
) -> Result<BTreeMap<&'static str, OwnedFd>, DatapathError> {
    let of = |hook: &Hook| Ok((hook.name, verified.take(hook.name)?));
    HOOKS.iter().map(of).collect()
}

fn open_maps(
    object: &mut Ebpf,
    sizes: &Sizes,
) -> Result<BTreeMap<&'static str, RawMap>, DatapathError> {
    let mut maps = BTreeMap::new();
    for name in [TRUST, foreign::FOREIGN] {
        maps.insert(name, open_map(object, name)?);
    }
    for spec in &MAPS {
        let name = || format!("the map {}", spec.name);
        let map = open_map(object, spec.name)?;
        if fit(spec, sizes.entries(spec), map.info()) == Fit::Wrong {
            return Err(DatapathError::Load {
                object: name(),
                reason: format!(
                    "the object makes it otherwise than its specification: {:?}",
                    map.info()
                ),
            });
        }
        maps.insert(spec.name, map);
    }
    Ok(maps)
}

fn open_map(object: &mut Ebpf, name: &'static str) -> Result<RawMap, DatapathError> {
    let map = object.take_map(name).and_then(data);
    let map = map.ok_or_else(|| absent(format!("the map {name}")))?;
    let fd = map.fd().as_fd().try_clone_to_owned();
    fd.and_then(RawMap::open)
        .map_err(DatapathError::map("open", name))
}

fn data(map: Map) -> Option<MapData> {
    let (Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::LpmTrie(data)
    | Map::Array(data)
    | Map::PerCpuArray(data)) = map
    else {
        return None;
    };
    Some(data)
}

pub(super) fn absent(object: String) -> DatapathError {
    DatapathError::Load {
        object,
        reason: "it is not in the eBPF object, which is of another build".to_owned(),
    }
}

/// The causes are part of the reason: the verifier's log is the innermost.
pub(super) fn failed<E: std::error::Error>(
    object: impl Into<String>,
) -> impl FnOnce(E) -> DatapathError {
    move |error| {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        DatapathError::Load {
            object: object.into(),
            reason,
        }
    }
}
