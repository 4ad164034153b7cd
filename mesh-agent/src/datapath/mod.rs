//! The kernel side of the agent: load the programs, pin, take over what is pinned, attach, write and read the maps.

mod attach;
mod cleanup;
mod load;
mod maps;
mod object;
mod operations;
mod pins;
pub(crate) mod sys;

pub use attach::{HOOKS, Hook};
pub use cleanup::{Removed, cleanup};
pub use load::{Datapath, Opened, Options, Sizes};
pub use maps::{Maps, SocketTables};
pub use operations::Operations;

use std::{io, path::PathBuf};

/// Why the datapath cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The directory for pins cannot be used.
    #[error(
        "MESH034: cannot use {path} for pins: {source}. It must lie on a bpffs: mount -t bpf bpf /sys/fs/bpf"
    )]
    Directory {
        /// --bpffs
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else could write into it.
    #[error(
        "MESH035: {path} is not this user's alone ({what}). Remove it, or give another directory by --bpffs"
    )]
    Foreign {
        /// --bpffs
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It is not a bpffs.
    #[error(
        "MESH034: {path} does not lie on a bpffs. Mount one: mount -t bpf bpf /sys/fs/bpf, or give another --bpffs"
    )]
    NotBpffs {
        /// --bpffs
        path: PathBuf,
    },
    /// The cgroup cannot be opened.
    #[error(
        "MESH036: cannot open the cgroup {path}: {source}. Give a cgroup2 directory by --cgroup"
    )]
    Cgroup {
        /// --cgroup
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused the object.
    #[error(
        "MESH037: the eBPF object cannot be loaded: {0}. `mesh-agent check` says what the kernel lacks"
    )]
    Load(#[from] aya::EbpfError),
    /// The verifier refused a program.
    #[error(
        "MESH038: the kernel refused the program {name}: {source}. `mesh-agent check` says what the kernel lacks"
    )]
    Program {
        /// Its name.
        name: &'static str,
        /// Why.
        source: Box<aya::programs::ProgramError>,
    },
    /// The object lacks something, or has it in another shape: a broken build.
    #[error("MESH039: the eBPF object has no {what}: the build is broken, please report it")]
    Object {
        /// What.
        what: String,
    },
    /// A map cannot be used.
    #[error("MESH040: the map {map}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A pin or a link cannot be made, replaced or removed.
    #[error("MESH041: cannot {action} {path}: {source}")]
    Pin {
        /// What was tried.
        action: &'static str,
        /// The pin.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are no pins.
    #[error("MESH042: no agent has pinned the map {map} in {path}. Has one run with this --bpffs?")]
    NotPinned {
        /// The map.
        map: &'static str,
        /// --bpffs
        path: PathBuf,
    },
}
