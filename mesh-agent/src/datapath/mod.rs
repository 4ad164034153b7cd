//! The kernel side as the agent sees it: the object loaded, programs attached and pinned, maps written and read.
//!
//! `Datapath::open` measures and loads and touches nothing that is in force; the engine fills the maps for the first
//! full state; `Datapath::commit` puts it in force, hook by hook.

mod cleanup;
pub mod codes;
mod commit;
mod connections;
mod dump;
mod error;
mod flow_lines;
mod flows;
mod foreign;
mod hooks;
mod inherit;
#[cfg(feature = "kernel-log")]
mod kernel_log;
mod links;
mod load;
mod maps;
mod object;
mod open;
mod packet;
mod pins;
pub mod probe;
mod shape;
mod sys;
pub mod tc;
mod verify;
pub mod view;

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use mesh_common::MAPS;

pub use cleanup::cleanup;
pub use connections::Connections;
pub use dump::Reader;
pub use error::DatapathError;
pub use flows::Collected;
pub use foreign::left as left_to_others;
pub use hooks::{HOOKS, Hook};
pub(crate) use load::host_number;
pub use maps::{Maps, Operation, Operations};
pub use shape::Sizes;
pub(crate) use sys::{own_netns_cookie, set_socket_option, socket_cookie};

use crate::{
    apply::{MapWriter, WriteError},
    plan::{TableDump, Write},
    snat_ports::Ports,
};
use links::Cgroup;
use pins::Pins;

/// Where the datapath is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The cgroup2 directory whose processes are served.
    pub cgroup: PathBuf,
    /// Where programs, links and maps are pinned.
    pub bpffs: PathBuf,
    /// Entries of the maps.
    pub sizes: Sizes,
    /// The ports that stand for clients.
    pub ports: Ports,
}

/// What a start found that people should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A pin is not the map that its name says.
    #[error("the pin {} has another shape than `{map}`; it is not read, and a new map takes its place", pin.display())]
    WrongShape {
        /// The map.
        map: &'static str,
        /// Its pin.
        pin: PathBuf,
    },
    /// A table is made anew with another number of entries.
    #[error("the map `{map}` is made anew with {to} entries instead of {from}")]
    Resized {
        /// The map.
        map: &'static str,
        /// Entries before.
        from: u32,
        /// Entries now.
        to: u32,
    },
    /// A map that traffic fills keeps its size, because its entries are in use.
    #[error(
        "the map `{map}` keeps its {kept} entries, {wanted} were asked for: traffic is using it; \
         `mesh-agent cleanup` and a new start make it anew"
    )]
    KeptSize {
        /// The map.
        map: &'static str,
        /// Entries it has.
        kept: u32,
        /// Entries asked for.
        wanted: u32,
    },
    /// A map that remembers ids starts empty, because the ids are given out anew.
    #[error("the tables could not be carried over; the map `{map}` starts empty")]
    Forgotten {
        /// The map.
        map: &'static str,
    },
    /// RLIMIT_MEMLOCK cannot be raised.
    #[error("RLIMIT_MEMLOCK cannot be raised ({0}); before Linux 5.11 maps may not fit into it")]
    Memlock(String),
}

/// What `Datapath::open` gives.
#[derive(Debug)]
pub struct Opened {
    /// Loaded, and not yet in force.
    pub datapath: Datapath,
    /// What the tables hold, if those of an earlier run were taken over or copied; None if they are new and empty.
    pub dump: Option<TableDump>,
    /// What should be logged.
    pub findings: Vec<Finding>,
}

/// The programs and maps of this agent.
#[derive(Debug)]
pub struct Datapath {
    pins: Pins,
    cgroup: Cgroup,
    programs: BTreeMap<&'static str, OwnedFd>,
    packet: packet::PacketPrograms,
    /// To be written by the engine.
    pub maps: Maps,
    /// Maps that are pinned under their names.
    taken: Vec<&'static str>,
    /// The programs in force are of a later version, whose readers look into our flow map too.
    is_downgrade: bool,
    /// Choices of backends in `sockets` go by ids that mean nothing any more.
    forgets_choices: bool,
}

impl Datapath {
    /// Takes over what is pinned and loads the object. The agent's lock must be held.
    ///
    /// # Errors
    /// If the directory cannot be trusted, or the kernel refuses the object.
    pub fn open(options: &Options) -> Result<Opened, DatapathError> {
        open::open(options)
    }

    /// What attaches the programs of packets to interfaces. They use the maps: `commit` comes first.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn attacher(&self) -> std::io::Result<tc::Attacher> {
        let (programs, stages) = self.packet.duplicate()?;
        Ok(tc::Attacher::new(self.pins.clone(), programs, Some(stages)))
    }

    /// A reader of its own over the maps, for telemetry and the admin socket.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn reader(&self) -> Result<Reader, DatapathError> {
        let names = MAPS.iter().map(|spec| spec.name);
        let names = names.chain(std::iter::once(flows::TRUST));
        let maps = names.filter_map(|name| Some((name, self.maps.raw(name).ok()?)));
        Reader::of_maps(maps)
    }
}

/// The engine writes through the datapath, which is its maps and what puts them in force.
impl MapWriter for Datapath {
    fn write(&mut self, write: &Write) -> Result<(), WriteError> {
        self.maps.write(write)
    }

    fn grace(&mut self) -> Result<(), WriteError> {
        self.maps.grace()
    }
}

/// Lets the kernel count runs and nanoseconds of its programs for as long as the value lives (Linux 5.8).
#[derive(Debug)]
pub struct ProgramStatistics(OwnedFd);

impl ProgramStatistics {
    /// Starts counting.
    ///
    /// # Errors
    /// On kernels before 5.8.
    pub fn start() -> std::io::Result<Self> {
        sys::enable_stats().map(Self)
    }
}

impl AsFd for ProgramStatistics {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Nanoseconds of the clock that stamps of affinity are in.
#[must_use]
pub fn monotonic_nanoseconds() -> u64 {
    sys::monotonic_nanoseconds()
}

/// The same in seconds, as flows are stamped.
#[must_use]
pub fn monotonic_seconds() -> u32 {
    u32::try_from(monotonic_nanoseconds() / 1_000_000_000).unwrap_or(u32::MAX)
}

/// Gives memory that the allocator holds free back to the kernel.
pub fn trim_heap() {
    sys::trim_heap();
}
