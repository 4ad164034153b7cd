//! The programs of packets: one for each kind of hook, and those of single stages, which are reached by tail calls
//! through the program array `stages`. The array is filled before anything is attached.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use aya::{
    Ebpf,
    maps::Map,
    programs::{Program, SchedClassifier},
};
use mesh_common::{Address, Interface};
use mesh_ebpf::{PacketHook, PacketStage};

use super::{
    Datapath, DatapathError,
    load::{absent, failed},
    pins::{self, Pins, temporary},
    sys::{self, RawMap},
    tc::{self, Attacher, Outcome, TcPrograms},
};
use crate::interfaces::{Device, Interfaces};

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

/// The program array in the object, and how its pins begin.
const ARRAY: &str = "stages";

/// Loaded, and attached nowhere yet.
pub(super) struct PacketPrograms {
    hooks: TcPrograms,
    stages: OwnedFd,
    number: u32,
}

/// Loads the programs and fills the array.
pub(super) fn load(object: &mut Ebpf) -> Result<PacketPrograms, DatapathError> {
    let stages = match object.take_map(ARRAY) {
        Some(Map::ProgramArray(data)) => data,
        Some(_) | None => return Err(absent(format!("the map {ARRAY}"))),
    };
    let map = |error| DatapathError::map("open", ARRAY)(error);
    let stages = stages.fd().as_fd().try_clone_to_owned().map_err(map)?;
    let array = RawMap::open(stages.try_clone().map_err(map)?).map_err(map)?;
    for (name, place) in STAGES {
        let program = load_program(object, name)?;
        let number = program.as_raw_fd().to_ne_bytes();
        array
            .update(&place.to_ne_bytes(), &number, 0)
            .map_err(DatapathError::map("fill", ARRAY))?;
    }
    let mut hook = |hook: PacketHook| load_program(object, hook.name());
    let hooks = TcPrograms {
        from_pod: hook(PacketHook::FromPod)?,
        to_pod: hook(PacketHook::ToPod)?,
        from_device: hook(PacketHook::FromDevice)?,
        to_device: hook(PacketHook::ToDevice)?,
    };
    Ok(PacketPrograms {
        hooks,
        number: array.info().id,
        stages,
    })
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

/// The programs of packets, and what they need to stay in force without this process.
#[derive(Debug)]
pub(super) struct PacketPath {
    pins: Pins,
    attacher: Attacher,
    stages: OwnedFd,
    /// The kernel's number of the array: no other that lives has it, and in a container every agent is process 1.
    number: u32,
}

impl PacketPath {
    pub(super) fn new(pins: &Pins, programs: PacketPrograms) -> Self {
        Self {
            attacher: Attacher::new(pins.clone(), programs.hooks),
            pins: pins.clone(),
            stages: programs.stages,
            number: programs.number,
        }
    }

    /// Puts the programs in force at the node's interfaces. The kernel empties a program array with its last descriptor
    /// or pin, so ours is pinned before anything needs it, and another run's loses its pin when nothing does any more.
    fn attach(&self, interfaces: &Interfaces) -> Result<Vec<Outcome>, DatapathError> {
        let own = format!("{ARRAY}-{}", self.number);
        self.pin(&own)?;
        let outcomes = self.attacher.reconcile(&tc::wanted(interfaces));
        if outcomes.iter().all(|outcome| outcome.result.is_ok()) {
            for name in pins::list(&self.pins.programs())? {
                if name.starts_with(ARRAY) && name != own {
                    pins::remove(&self.pins.programs().join(name))?;
                }
            }
        }
        Ok(outcomes)
    }

    fn pin(&self, name: &str) -> Result<(), DatapathError> {
        let pin = self.pins.programs().join(name);
        let new = temporary(&pin);
        pins::remove(&new)?;
        sys::object_pin(self.stages.as_fd(), &new)
            .map_err(DatapathError::path("cannot pin", &new))?;
        pins::replace(&new, &pin)
    }
}

impl Datapath {
    /// Serves the node's interfaces as they are: the addresses that stand for clients behind them, then the programs.
    ///
    /// # Errors
    /// If a map cannot be written or the programs cannot be pinned. What fails at single interfaces is in the outcomes.
    pub fn serve_interfaces(
        &mut self,
        interfaces: &Interfaces,
    ) -> Result<Vec<Outcome>, DatapathError> {
        self.maps.set_interfaces(&addresses(interfaces))?;
        self.packet.attach(interfaces)
    }
}

/// What stands for clients behind each interface: a device's own addresses, and for pods those of the first device.
fn addresses(interfaces: &Interfaces) -> BTreeMap<u32, Interface> {
    let v4 = |device: &Device| device.v4.map(Address::from);
    let v6 = |device: &Device| device.v6.map(Address::from);
    let none = Address::UNSPECIFIED;
    let mut devices = interfaces.devices.values();
    let first = Interface::new(
        devices.clone().find_map(v4).unwrap_or(none),
        devices.find_map(v6).unwrap_or(none),
    );
    let devices = interfaces.devices.iter().map(|(index, device)| {
        let own = Interface::new(v4(device).unwrap_or(none), v6(device).unwrap_or(none));
        (*index, own)
    });
    let pods = interfaces.pods.keys().map(|index| (*index, first));
    devices.chain(pods).collect()
}
