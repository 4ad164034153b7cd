//! tcx links, pinned as `links/HOOK-INDEX`. A pin says nothing of the interface that has the index now: the kernel is
//! asked whether the link is among those of that interface.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use mesh_common::Direction;

use super::{Done, Outcome, Programs, Target, TcError, TcHook, Wanted, named, program, targets};
use crate::datapath::{
    DatapathError,
    pins::{self, Pins},
    sys,
};

/// The kernel's number for tcx links.
const BPF_LINK_TYPE_TCX: u32 = 11;

/// bpf_attach_type.
fn attach_type(hook: TcHook) -> u32 {
    match hook.direction() {
        Direction::Ingress => 46,
        Direction::Egress => 47,
    }
}

pub(super) fn reconcile(pins: &Pins, wanted: &Wanted, programs: &Programs) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = targets(wanted)
        .filter_map(|target| target.outcome(attach(pins, &target, programs)))
        .collect();
    let is_wanted = |hook: TcHook, index: u32| {
        let wanted = wanted.get(&index);
        wanted.is_some_and(|(_, it)| *it == hook.kind())
    };
    match pinned(pins) {
        Ok(all) => outcomes.extend(
            all.into_iter()
                .filter(|(hook, index, _)| !is_wanted(*hook, *index))
                .map(|(hook, index, pin)| remove(hook, index, &pin)),
        ),
        Err(error) => tracing::warn!(%error, "pins of links that are not wanted stay"),
    }
    outcomes
}

fn attach(
    pins: &Pins,
    target: &Target<'_>,
    programs: &Programs,
) -> Result<Done, (&'static str, io::Error)> {
    let program = program(programs, target.hook).map_err(|error| ("attach", error))?;
    let pin = pins.links().join(pin_name(target.hook, target.index));
    if let Some(link) = live(&pin, target)
        && sys::link_update(link.as_fd(), program).is_ok()
    {
        return Ok(Done::Replaced);
    }
    let attach_type = attach_type(target.hook);
    let link =
        sys::tcx_create(program, target.index, attach_type).map_err(|error| ("attach", error))?;
    let temporary = pins::temporary(&pin);
    sys::object_pin(link.as_fd(), &temporary).map_err(|error| ("pin", error))?;
    std::fs::rename(&temporary, &pin).map_err(|error| ("pin", error))?;
    Ok(Done::Attached)
}

/// The pinned link, if the interface that has the index now is the one it is attached to.
fn live(pin: &Path, target: &Target<'_>) -> Option<OwnedFd> {
    let link = sys::object_get(pin).ok()?;
    let info = sys::tcx_info(link.as_fd()).ok()?;
    let attach_type = attach_type(target.hook);
    if info.kind != BPF_LINK_TYPE_TCX
        || info.interface != target.index
        || info.attach_type != attach_type
    {
        return None;
    }
    let here = sys::tcx_query(target.index, attach_type).ok()?;
    here.iter().any(|it| it.link == info.id).then_some(link)
}

/// Pins of links at interfaces.
fn pinned(pins: &Pins) -> Result<Vec<(TcHook, u32, PathBuf)>, DatapathError> {
    let directory = pins.links();
    let names = pins::list(&directory)?;
    let parse = |name: &String| {
        let (hook, index) = name.rsplit_once('-')?;
        let hook = named(hook)?;
        Some((hook, index.parse().ok()?, directory.join(name)))
    };
    Ok(names.iter().filter_map(parse).collect())
}

fn pin_name(hook: TcHook, index: u32) -> String {
    format!("{}-{index}", hook.name())
}

fn remove(hook: TcHook, index: u32, pin: &Path) -> Outcome {
    if let Err(error) = sys::object_get(pin).and_then(|link| sys::link_detach(link.as_fd())) {
        tracing::debug!(%error, pin = ?pin, "detached when it is unpinned");
    }
    let result = match std::fs::remove_file(pin) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(TcError {
            what: "remove",
            hook: hook.name().to_owned(),
            interface: format!("interface {index}"),
            source,
        }),
        _ => Ok(Done::Removed),
    };
    Outcome {
        index,
        hook: hook.name(),
        result,
    }
}
