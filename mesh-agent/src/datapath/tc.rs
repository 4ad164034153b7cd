//! The packet path's programs at interfaces: which interface has which, attached, replaced, taken away. In comes what
//! is wanted, out goes what was done, interface by interface; one that fails harms no other. From Linux 6.6 the ways
//! are tcx links, before it filters of a clsact qdisc.

mod clsact;
mod tcx;

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use mesh_common::Direction;
use mesh_ebpf::{LinkHeader, PacketHook};

use super::{DatapathError, packet::Stages, pins::Pins, sys};
use crate::interfaces::{Interfaces, Place};

/// What programs know of the interface that they are at.
pub type Kind = (Place, LinkHeader);

/// A program, by where it is: of which hook, at which kind of interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TcHook {
    hook: PacketHook,
    link: LinkHeader,
}

/// Every hook. Egress comes first: it gives replies the source that was asked for, so it has to be there when ingress
/// translates the first destination.
pub(super) const HOOKS: [TcHook; 6] = [
    TcHook::new(PacketHook::ToPod, LinkHeader::Ethernet),
    TcHook::new(PacketHook::ToDevice, LinkHeader::Ethernet),
    TcHook::new(PacketHook::ToDevice, LinkHeader::None),
    TcHook::new(PacketHook::FromPod, LinkHeader::Ethernet),
    TcHook::new(PacketHook::FromDevice, LinkHeader::Ethernet),
    TcHook::new(PacketHook::FromDevice, LinkHeader::None),
];

impl TcHook {
    const fn new(hook: PacketHook, link: LinkHeader) -> Self {
        Self { hook, link }
    }

    /// At which interfaces it is.
    const fn kind(self) -> Kind {
        let place = match self.hook {
            PacketHook::FromPod | PacketHook::ToPod => Place::Pod,
            PacketHook::FromDevice | PacketHook::ToDevice => Place::Device,
        };
        (place, self.link)
    }

    /// The program's name.
    pub(super) const fn name(self) -> &'static str {
        self.hook.program(self.link)
    }

    const fn direction(self) -> Direction {
        self.hook.direction()
    }
}

/// The hook of this name.
fn named(name: &str) -> Option<TcHook> {
    HOOKS.into_iter().find(|hook| hook.name() == name)
}

/// The loaded programs.
pub(super) type Programs = BTreeMap<TcHook, OwnedFd>;

fn program(programs: &Programs, hook: TcHook) -> io::Result<BorrowedFd<'_>> {
    let program = programs.get(&hook).map(AsFd::as_fd);
    program.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the program is not loaded"))
}

/// Interfaces that are to have programs, by index.
pub type Wanted = BTreeMap<u32, (String, Kind)>;

/// The interfaces that are to have programs.
#[must_use]
pub fn wanted(interfaces: &Interfaces) -> Wanted {
    let pods = interfaces.pods.iter();
    let kind = (Place::Pod, LinkHeader::Ethernet);
    let pods = pods.map(|(index, pod)| (*index, (pod.name.clone(), kind)));
    let devices = interfaces.devices.iter();
    let devices = devices.map(|(index, device)| {
        let kind = (Place::Device, device.header);
        (*index, (device.name.clone(), kind))
    });
    pods.chain(devices).collect()
}

/// What was done at a hook of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The link or filter that was there has the program now.
    Replaced,
    /// The program was attached where none of ours was.
    Attached,
    /// A program that is not wanted there was taken away, or what was left of one whose interface is gone.
    Removed,
}

/// Why a hook of an interface is not as wanted.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {what} {hook} at {interface}: {source}; it is tried again with the next change of interfaces"
)]
pub struct TcError {
    /// attach, pin, remove
    what: &'static str,
    /// The program's name.
    hook: String,
    /// The interface, by name if it is known.
    interface: String,
    /// What the kernel said.
    source: io::Error,
}

/// What became of one hook of one interface.
#[derive(Debug)]
pub struct Outcome {
    /// The interface.
    pub index: u32,
    /// The program's name.
    pub hook: &'static str,
    /// What was done, or why it could not be.
    pub result: Result<Done, TcError>,
}

/// How programs get to interfaces on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// bpf_links, which nobody else can take away by mistake.
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact,
}

impl Way {
    /// The best one that this kernel has.
    #[must_use]
    pub fn of_kernel() -> Self {
        if sys::tcx_works() {
            Self::Tcx
        } else {
            Self::Clsact
        }
    }
}

/// The loaded programs, to be attached by a thread of its own.
#[derive(Debug)]
pub struct Attacher {
    pins: Pins,
    way: Way,
    programs: Programs,
    /// The program array that the programs go on through.
    stages: Option<Stages>,
}

impl Attacher {
    pub(super) fn new(pins: Pins, programs: Programs, stages: Option<Stages>) -> Self {
        Self {
            pins,
            way: Way::of_kernel(),
            programs,
            stages,
        }
    }

    /// How programs get to interfaces here.
    #[must_use]
    pub fn way(&self) -> Way {
        self.way
    }

    /// Makes what is attached what is wanted. An interface that had a program has one at every instant: what is wanted
    /// is attached before what is not is taken away.
    ///
    /// # Errors
    /// If the program array cannot be pinned; then nothing was touched.
    pub fn reconcile(&self, wanted: &Wanted) -> Result<Vec<Outcome>, DatapathError> {
        if let Some(stages) = &self.stages {
            stages.pin(&self.pins)?;
        }
        let outcomes = match self.way {
            Way::Tcx => tcx::reconcile(&self.pins, wanted, &self.programs),
            Way::Clsact => clsact::reconcile(wanted, &self.programs),
        };
        // A program of an earlier run that is still somewhere needs the array of that run.
        let all_ours = outcomes.iter().all(|outcome| outcome.result.is_ok());
        if let Some(stages) = self.stages.as_ref().filter(|_| all_ours) {
            stages.unpin_others(&self.pins)?;
        }
        Ok(outcomes)
    }
}

/// Filters of ours on this host, or those that would be removed: "from_pod on eth0". Links are pins and go with them.
///
/// # Errors
/// If the kernel does not answer.
pub fn remove_filters(dry_run: bool) -> io::Result<Vec<String>> {
    clsact::remove_all(dry_run)
}

/// A wanted hook of an interface.
struct Target<'a> {
    index: u32,
    name: &'a str,
    hook: TcHook,
}

impl Target<'_> {
    fn outcome(&self, result: Result<Done, (&'static str, io::Error)>) -> Option<Outcome> {
        let result = match result {
            // The interface went while we came: the next look says so.
            Err((_, error)) if is_gone(&error) => return None,
            Err((what, source)) => Err(TcError {
                what,
                hook: self.hook.name().to_owned(),
                interface: self.name.to_owned(),
                source,
            }),
            Ok(done) => Ok(done),
        };
        Some(Outcome {
            index: self.index,
            hook: self.hook.name(),
            result,
        })
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32)
}

/// Every hook of every interface that is wanted, hook by hook.
fn targets(wanted: &Wanted) -> impl Iterator<Item = Target<'_>> {
    HOOKS.into_iter().flat_map(move |hook| {
        let here = wanted.iter().filter(move |(_, (_, it))| *it == hook.kind());
        here.map(move |(&index, (name, _))| Target { index, name, hook })
    })
}

#[cfg(test)]
mod tests;
