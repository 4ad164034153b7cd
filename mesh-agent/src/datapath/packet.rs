//! The programs of packets: one for each kind of hook, and those of single stages, which are reached by tail calls
//! through the program array `stages`. The array is filled before anything is attached.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use aya::{Ebpf, maps::Map};
use mesh_ebpf::PacketStage;

use super::{
    DatapathError,
    load::absent,
    pins::{self, Pins},
    sys::{self, RawMap},
    tc::{HOOKS, Programs},
    verify::Verified,
};

/// Where in `stages` the programs of egress hooks begin, as the object has it.
const EGRESS: u32 = 16;

/// The stages that are programs of their own, with their place in `stages`.
const STAGES: [(&str, u32); 10] = [
    ("ingress_parse", PacketStage::Parse as u32),
    ("ingress_open", PacketStage::Open as u32),
    ("ingress_choose", PacketStage::Choose as u32),
    ("ingress_enter", PacketStage::Enter as u32),
    ("ingress_confirm", PacketStage::Confirm as u32),
    ("ingress_icmp", PacketStage::Icmp as u32),
    ("ingress_refuse", PacketStage::Refuse as u32),
    ("egress_parse", PacketStage::Parse as u32 + EGRESS),
    ("egress_source", PacketStage::Source as u32 + EGRESS),
    ("egress_icmp", PacketStage::Icmp as u32 + EGRESS),
];

/// The program array; its pins are `stages-ID` among those of programs.
const ARRAY: &str = "stages";

/// Loaded, and attached nowhere yet.
#[derive(Debug)]
pub(super) struct PacketPrograms {
    hooks: Programs,
    stages: Stages,
}

/// The filled program array. The kernel empties it with its last descriptor or pin, however many programs that are
/// attached need it.
#[derive(Debug)]
pub(super) struct Stages(OwnedFd);

/// Fills the array with the programs.
pub(super) fn load(
    object: &mut Ebpf,
    verified: &mut Verified,
) -> Result<PacketPrograms, DatapathError> {
    let stages = match object.take_map(ARRAY) {
        Some(Map::ProgramArray(data)) => data,
        Some(_) | None => return Err(absent(format!("the map {ARRAY}"))),
    };
    let map = |error| DatapathError::map("open", ARRAY)(error);
    let stages = stages.fd().as_fd().try_clone_to_owned().map_err(map)?;
    let array = RawMap::open(stages.try_clone().map_err(map)?).map_err(map)?;
    for (name, place) in STAGES {
        let program = verified.take(name)?;
        let number = program.as_raw_fd().to_ne_bytes();
        array
            .update(&place.to_ne_bytes(), &number, 0)
            .map_err(DatapathError::map("fill", ARRAY))?;
    }
    let mut hooks = Programs::new();
    for hook in HOOKS {
        hooks.insert(hook, verified.take(hook.name())?);
    }
    Ok(PacketPrograms {
        hooks,
        stages: Stages(stages),
    })
}

impl PacketPrograms {
    /// The programs and their array, to be attached by who owns them then.
    pub(super) fn duplicate(&self) -> io::Result<(Programs, Stages)> {
        let programs = self.hooks.iter();
        let programs = programs.map(|(hook, program)| Ok((*hook, program.try_clone()?)));
        Ok((
            programs.collect::<io::Result<_>>()?,
            Stages(self.stages.0.try_clone()?),
        ))
    }
}

impl Stages {
    fn pin_name(&self) -> io::Result<String> {
        Ok(format!("{ARRAY}-{}", sys::map_info(self.0.as_fd())?.id))
    }

    /// Keeps the array filled when this process ends. Done before anything is attached that needs it; the array of an
    /// earlier run keeps its own pin beside it.
    pub(super) fn pin(&self, pins: &Pins) -> Result<(), DatapathError> {
        let name = self.pin_name().map_err(DatapathError::map("pin", ARRAY))?;
        let pin = pins.programs().join(name);
        match sys::object_pin(self.0.as_fd(), &pin) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(DatapathError::path("cannot pin", &pin)(error))
            }
            _ => Ok(()),
        }
    }

    /// Lets go of the arrays of earlier runs. Nothing may be attached any more that needs them.
    pub(super) fn unpin_others(&self, pins: &Pins) -> Result<(), DatapathError> {
        let name = self.pin_name().map_err(DatapathError::map("pin", ARRAY))?;
        for other in pins::list(&pins.programs())? {
            if other.starts_with(ARRAY) && other != name {
                pins::remove(&pins.programs().join(other))?;
            }
        }
        Ok(())
    }
}
