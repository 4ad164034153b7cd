//! Programs and maps as `status` shows them; from pins alone.

use std::{os::fd::AsFd, path::Path};

use mesh_common::MAPS;

use super::{
    Datapath, Hook, Reader,
    hooks::{CLIENTS, HOOKS},
    links,
    pins::Pins,
    sys,
};
use crate::telemetry::view::{MapView, ProgramView};

/// Every program: whether its link is in force, whether it is pinned, and its figures. That for clients is left out where
/// it is not attached, as it should be while no Service asks for them.
#[must_use]
pub fn programs(bpffs: &Path) -> Vec<ProgramView> {
    let pins = Pins::at(bpffs);
    let view = |hook| {
        let in_force = links::program_in_force(&pins, hook);
        let pinned = sys::object_get(&pins.program(hook)).ok();
        let info = in_force
            .clone()
            .or_else(|| sys::program_info(pinned.as_ref()?.as_fd()).ok());
        let info = info.unwrap_or_default();
        ProgramView {
            name: hook.name.to_owned(),
            attached: in_force.is_some(),
            pinned: pinned.is_some(),
            run_count: Some(info.run_count),
            run_time_ns: Some(info.run_time_ns),
        }
    };
    let in_use = |hook: &&Hook| **hook != CLIENTS || links::is_attached(&pins, hook);
    HOOKS.iter().filter(in_use).map(view).collect()
}

/// Every map: what it holds and takes. A map that is not there has room for nothing.
#[must_use]
pub fn maps(reader: &Reader, bpffs: &Path) -> Vec<MapView> {
    let pins = Pins::at(bpffs);
    let view = |spec: &mesh_common::MapSpec| MapView {
        name: spec.name.to_owned(),
        version: spec.version,
        entries: reader.used(spec.name).ok(),
        capacity: reader.capacity(spec.name).unwrap_or(0),
        bytes: reader.bytes(spec.name).unwrap_or(0),
        pinned: pins.map(spec).exists(),
    };
    MAPS.iter().map(view).collect()
}

impl Datapath {
    /// Every program of this datapath's pins.
    #[must_use]
    pub fn programs(&self) -> Vec<ProgramView> {
        programs(self.pins.root())
    }
}
