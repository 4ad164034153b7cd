//! What can go wrong between the agent and the kernel's programs and maps.

use std::{io, path::PathBuf};

/// Why the datapath could not be opened, put in force or read.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// A system call on a file or pin failed.
    #[error("{what} {}: {source}", path.display())]
    Path {
        /// What was tried, as the beginning of a sentence: "cannot pin".
        what: &'static str,
        /// The file, directory or pin.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The directory for pins is not one that may be trusted.
    #[error("{} {reason}; {fix}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        fix: &'static str,
    },
    /// The eBPF object, a map or a program was refused.
    #[error("cannot load {object}: {reason}; `mesh-agent check` says what this kernel lacks")]
    Load {
        /// What.
        object: String,
        /// The loader's words, the verifier's log included.
        reason: String,
    },
    /// A hook could not be attached.
    #[error("cannot attach {hook} to {}: {source}; `mesh-agent check` says what is missing", cgroup.display())]
    Attach {
        /// The hook.
        hook: &'static str,
        /// The cgroup.
        cgroup: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A map could not be read or written.
    #[error("cannot {what} the map `{map}`: {source}")]
    Map {
        /// read, map, fill
        what: &'static str,
        /// The map.
        map: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl DatapathError {
    pub(super) fn path(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Path { what, path, source }
    }

    pub(super) fn map(what: &'static str, map: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Map { what, map, source }
    }
}
