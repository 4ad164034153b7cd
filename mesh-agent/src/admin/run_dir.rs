//! The run directory: made for root alone; one that others can write to is refused, because they could put a socket of
//! theirs in place of ours.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The socket that commands talk to.
pub const SOCKET: &str = "agent.sock";
/// The lock of the agent that runs.
pub const LOCK: &str = "agent.lock";
/// Where API servers were when one was last heard.
pub const API_SERVERS: &str = "api-servers";

/// What timeouts of the kernel's conntrack were before they were changed.
pub const CONNTRACK_TIMEOUTS: &str = "conntrack-timeouts";

/// Which ports stand for clients.
pub const SNAT_PORTS: &str = "snat-ports";

/// Every file that an agent makes here, with what is there for an instant only.
pub const FILES: [&str; 8] = [
    SOCKET,
    "agent.sock.new",
    LOCK,
    API_SERVERS,
    "api-servers.new",
    CONNTRACK_TIMEOUTS,
    SNAT_PORTS,
    "snat-ports.new",
];

/// Writes one of them, whole or not at all.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    io::Write::write_all(&mut options.open(&new)?, text.as_bytes())?;
    fs::rename(new, path)
}

/// Why a run directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// It cannot be made or looked at.
    #[error(
        "MESH110 --run-dir {path:?}: {source}; run as root, or choose a directory that can be made"
    )]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else has the name.
    #[error("MESH111 --run-dir {path:?}: it is no directory; remove it, or choose another one")]
    NoDirectory {
        /// The path.
        path: PathBuf,
    },
    /// Others can put files into it.
    #[error(
        "MESH112 --run-dir {path:?}: user {owner} owns it, mode {mode:o}, and others could replace the agent's \
         socket; use a directory of root's that only root can write to"
    )]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
}

/// Makes the directory, mode 0700, unless it is there; says no to one that others can write to.
pub fn make(path: &Path) -> Result<(), RunDirError> {
    let unusable = |source| RunDirError::Unusable {
        path: path.to_owned(),
        source,
    };
    if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(path)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(unusable(error));
    }
    let metadata = fs::metadata(path).map_err(unusable)?;
    if !metadata.is_dir() {
        return Err(RunDirError::NoDirectory {
            path: path.to_owned(),
        });
    }
    let own = nix::unistd::geteuid().as_raw();
    if metadata.uid() != own || metadata.mode() & 0o022 != 0 {
        return Err(RunDirError::Writable {
            path: path.to_owned(),
            owner: metadata.uid(),
            mode: metadata.mode() & 0o7777,
        });
    }
    Ok(())
}
