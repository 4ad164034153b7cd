//! Carries out what `gone` decides: finds doomed sockets by whom they are connected to, in this namespace and in those
//! that are files, and destroys those whose cookie proves that they are meant. One dump for each namespace, family and
//! transport, however many backends are gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use mesh_common::Address;
use nix::sched::{CloneFlags, setns};

use super::Doomed;
use crate::netlink::{SockDiag, Transport};

const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// What became of doomed sockets.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Destroyed, by protocol.
    pub destroyed: BTreeMap<&'static str, u64>,
    /// Those that were found nowhere: closed meanwhile, or in a namespace that is not known.
    pub missing: usize,
    /// Whether namespaces of pods may not be entered.
    pub is_denied: bool,
    /// What failed, in some namespace.
    pub errors: Vec<io::Error>,
}

/// Where sockets are.
#[derive(Clone, Debug)]
pub struct Destroyer {
    directories: Vec<PathBuf>,
}

impl Destroyer {
    /// In the namespace of this thread, and in those that are files in these directories.
    #[must_use]
    pub const fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories }
    }

    /// Destroys them. Namespaces of pods are entered only while some are not found.
    #[must_use]
    pub fn destroy(&self, doomed: Doomed) -> Outcome {
        let mut pass = Pass::new(doomed);
        pass.here();
        if pass.doomed.is_empty() {
            return pass.finish();
        }
        let files = self.namespaces();
        // A thread that ends after: it could not be trusted to be back in its own namespace.
        let visitor = std::thread::Builder::new().name("netns".to_owned());
        let visited = visitor.spawn(move || {
            pass.each(files);
            pass.finish()
        });
        match visited.map(std::thread::JoinHandle::join) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => {
                Outcome::failed(io::Error::other("the thread that enters them broke down"))
            }
            Err(error) => Outcome::failed(error),
        }
    }

    /// Each namespace once, without our own.
    fn namespaces(&self) -> Vec<File> {
        let mut seen: BTreeSet<(u64, u64)> =
            identity(Path::new(OWN_NAMESPACE)).into_iter().collect();
        let entries = self
            .directories
            .iter()
            .filter_map(|it| fs::read_dir(it).ok());
        let paths = entries.flatten().flatten().map(|entry| entry.path());
        let new = paths.filter(|path| identity(path).is_some_and(|it| seen.insert(it)));
        new.filter_map(|path| File::open(path).ok()).collect()
    }
}

/// What makes two files one namespace.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let status = fs::metadata(path).ok()?;
    Some((status.dev(), status.ino()))
}

impl Outcome {
    fn failed(error: io::Error) -> Self {
        Self {
            errors: vec![error],
            ..Self::default()
        }
    }
}

/// One pass over namespaces.
struct Pass {
    doomed: Doomed,
    addresses: BTreeSet<Address>,
    outcome: Outcome,
}

impl Pass {
    fn new(doomed: Doomed) -> Self {
        Self {
            addresses: doomed.values().map(|(address, _)| *address).collect(),
            doomed,
            outcome: Outcome::default(),
        }
    }

    fn each(&mut self, files: Vec<File>) {
        for file in files {
            if self.doomed.is_empty() {
                return;
            }
            match setns(&file, CloneFlags::CLONE_NEWNET) {
                Ok(()) => self.here(),
                Err(nix::errno::Errno::EPERM) => {
                    self.outcome.is_denied = true;
                    return;
                }
                // A file that is no namespace, or not any more.
                Err(_) => {}
            }
        }
    }

    /// In the namespace of this thread. One protocol that fails leaves the other.
    fn here(&mut self) {
        match SockDiag::open() {
            Ok(mut diag) => {
                for transport in Transport::ALL {
                    let done = self.through(&mut diag, transport);
                    self.outcome.errors.extend(done.err());
                }
            }
            Err(error) => self.outcome.errors.push(error),
        }
    }

    fn through(&mut self, diag: &mut SockDiag, transport: Transport) -> io::Result<()> {
        for socket in diag.connected_to(transport, &self.addresses)? {
            if self.doomed.get(&socket.cookie) != Some(&socket.peer) {
                continue;
            }
            if diag.destroy(&socket)? {
                tracing::debug!(
                    protocol = transport.name(),
                    backend = %socket.peer.0.to_ip(),
                    port = socket.peer.1,
                    cookie = socket.cookie,
                    "destroyed a socket whose backend is gone"
                );
                let count = self.outcome.destroyed.entry(transport.name());
                *count.or_default() += 1;
            }
            self.doomed.remove(&socket.cookie);
        }
        Ok(())
    }

    fn finish(self) -> Outcome {
        Outcome {
            missing: self.doomed.len(),
            ..self.outcome
        }
    }
}
