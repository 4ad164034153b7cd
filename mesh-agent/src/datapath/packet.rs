//! The programs of packets: one for each kind of hook, and those of single stages, which are reached by tail calls
//! through the program array `stages`. The array is filled before anything is attached.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use aya::{
    Ebpf,
    maps::Map,
    programs::{Program, SchedClassifier},
};
use mesh_ebpf::{PacketHook, PacketStage};

use super::{
    DatapathError,
    load::{absent, failed},
    pins::{self, Pins, temporary},
    sys::{self, RawMap},
};

/// Where in `stages` the programs of egress hooks begin, as the object has it.
const EGRESS: u32 = 16;

/// The stages that are programs of their own, with their place in `stages`.
const STAGES: [(&str, u32); 6] = [
    ("ingress_open", PacketStage::Open as u32),
    ("ingress_confirm", PacketStage::Confirm as u32),
    ("ingress_icmp", PacketStage::Icmp as u32),
    ("ingress_refuse", PacketStage::Refuse as u32),
    ("egress_source", PacketStage::Source as u32 + EGRESS),
    ("egress_icmp", PacketStage::Icmp as u32 + EGRESS),
];

/// The pin of the program array, among the programs.
const PIN: &str = "stages";

/// Loaded, and attached nowhere yet.
#[derive(Debug)]
pub(super) struct PacketPrograms {
    hooks: BTreeMap<PacketHook, OwnedFd>,
    stages: OwnedFd,
}

/// Loads the programs and fills the array.
pub(super) fn load(object: &mut Ebpf) -> Result<PacketPrograms, DatapathError> {
    let stages = match object.take_map(PIN) {
        Some(Map::ProgramArray(data)) => data,
        Some(_) | None => return Err(absent(format!("the map {PIN}"))),
    };
    let map = |error| DatapathError::map("open", PIN)(error);
    let stages = stages.fd().as_fd().try_clone_to_owned().map_err(map)?;
    let array = RawMap::open(stages.try_clone().map_err(map)?).map_err(map)?;
    for (name, place) in STAGES {
        let program = load_program(object, name)?;
        let number = program.as_raw_fd().to_ne_bytes();
        array
            .update(&place.to_ne_bytes(), &number, 0)
            .map_err(DatapathError::map("fill", PIN))?;
    }
    let mut hooks = BTreeMap::new();
    for hook in PacketHook::ALL {
        hooks.insert(hook, load_program(object, hook.name())?);
    }
    Ok(PacketPrograms { hooks, stages })
}

fn load_program(object: &mut Ebpf, name: &'static str) -> Result<OwnedFd, DatapathError> {
    let what = || format!("the program {name}");
    let program: Option<&mut Program> = object.program_mut(name);
    let program: &mut SchedClassifier = program
        .ok_or_else(|| absent(what()))?
        .try_into()
        .map_err(failed::<aya::programs::ProgramError>(what()))?;
    program.load().map_err(failed(what()))?;
    let fd = program.fd().map_err(failed(what()))?;
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(failed::<std::io::Error>(what()))
}

impl PacketPrograms {
    /// The program of a hook.
    pub(super) fn hook(&self, hook: PacketHook) -> Option<BorrowedFd<'_>> {
        self.hooks.get(&hook).map(AsFd::as_fd)
    }

    /// Keeps the array filled when this process ends: the kernel empties it with its last descriptor or pin. That of an
    /// earlier run loses its pin here, so nothing may be attached any more that needs it.
    pub(super) fn pin(&self, pins: &Pins) -> Result<(), DatapathError> {
        let pin = pins.programs().join(PIN);
        let new = temporary(&pin);
        pins::remove(&new)?;
        sys::object_pin(self.stages.as_fd(), &new)
            .map_err(DatapathError::path("cannot pin", &new))?;
        pins::replace(&new, &pin)
    }
}
