//! Carries out what `gone` decides: finds doomed sockets by whom they are connected to, in this namespace and in those
//! that are files, and destroys those whose cookie proves that they are meant. Only namespaces where some may be are asked,
//! each once by family and transport, however many backends are gone.

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
use crate::{
    datapath::own_netns_cookie,
    netlink::{Family, SockDiag, Transport},
};

const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// A cookie that is not known, of a socket's namespace or of a file.
const UNKNOWN: u64 = 0;

/// What became of doomed sockets.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Destroyed, by protocol.
    pub destroyed: BTreeMap<&'static str, u64>,
    /// Those that were found nowhere: closed meanwhile, or in a namespace that is not known.
    pub missing: usize,
    /// In how many namespaces they were looked for.
    pub searched: u64,
    /// Whether namespaces of pods may not be entered.
    pub is_denied: bool,
    /// What failed, in some namespace.
    pub errors: Vec<io::Error>,
}

/// Where sockets are.
#[derive(Clone, Debug)]
pub struct Destroyer {
    directories: Vec<PathBuf>,
    own: u64,
    /// Cookies of those that were entered before.
    cookies: BTreeMap<Identity, u64>,
}

/// What makes two files one namespace: device, number, and when it became a file, since numbers are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    device: u64,
    number: u64,
    changed: (i64, i64),
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let status = fs::metadata(path).ok()?;
        Some(Self {
            device: status.dev(),
            number: status.ino(),
            changed: (status.ctime(), status.ctime_nsec()),
        })
    }

    const fn is_same_namespace(&self, other: &Self) -> bool {
        self.device == other.device && self.number == other.number
    }
}

impl Destroyer {
    /// In the namespace of this thread, and in those that are files in these directories.
    #[must_use]
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self {
            directories,
            own: own_netns_cookie().unwrap_or(UNKNOWN),
            cookies: BTreeMap::new(),
        }
    }

    /// Destroys them. Namespaces of pods are entered only where some may be.
    #[must_use]
    pub fn destroy(&mut self, doomed: Doomed) -> Outcome {
        let mut pass = Pass::new(doomed);
        pass.here(self.own);
        if pass.is_done() {
            return pass.finish();
        }
        let files = self.namespaces(&pass);
        if files.is_empty() {
            return pass.finish();
        }
        // A thread that ends after: it could not be trusted to be back in its own namespace.
        let visitor = std::thread::Builder::new().name("netns".to_owned());
        let visited = visitor.spawn(move || {
            let cookies = pass.each(files);
            (cookies, pass.finish())
        });
        match visited.map(std::thread::JoinHandle::join) {
            Ok(Ok((cookies, outcome))) => {
                self.cookies.extend(cookies);
                outcome
            }
            Ok(Err(_)) => {
                Outcome::failed(io::Error::other("the thread that enters them broke down"))
            }
            Err(error) => Outcome::failed(error),
        }
    }

    /// Each namespace once, without our own and without those that have none of the sockets.
    fn namespaces(&mut self, pass: &Pass) -> Vec<(Identity, File)> {
        let own = Identity::of(Path::new(OWN_NAMESPACE));
        let entries = self
            .directories
            .iter()
            .filter_map(|it| fs::read_dir(it).ok());
        let mut paths = BTreeMap::new();
        for entry in entries.flatten().flatten() {
            let path = entry.path();
            if let Some(identity) = Identity::of(&path)
                && !own.is_some_and(|own| own.is_same_namespace(&identity))
            {
                paths.entry(identity).or_insert(path);
            }
        }
        self.cookies
            .retain(|identity, _| paths.contains_key(identity));
        let cookie = |it: &Identity| self.cookies.get(it).copied().unwrap_or(UNKNOWN);
        let wanted = paths
            .into_iter()
            .filter(|(it, _)| pass.concerns(cookie(it)));
        wanted
            .filter_map(|(identity, path)| Some((identity, File::open(path).ok()?)))
            .collect()
    }
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
            addresses: doomed.values().map(|target| target.peer.0).collect(),
            doomed,
            outcome: Outcome::default(),
        }
    }

    fn is_done(&self) -> bool {
        self.doomed.is_empty()
    }

    /// Whether any of them may be in a namespace.
    fn concerns(&self, cookie: u64) -> bool {
        let mut targets = self.doomed.values();
        targets.any(|it| cookie == UNKNOWN || it.netns == UNKNOWN || it.netns == cookie)
    }

    /// Gives the cookies that it learned.
    fn each(&mut self, files: Vec<(Identity, File)>) -> Vec<(Identity, u64)> {
        let mut cookies = Vec::new();
        for (identity, file) in files {
            if self.is_done() {
                break;
            }
            match setns(&file, CloneFlags::CLONE_NEWNET) {
                Ok(()) => {
                    let cookie = own_netns_cookie().unwrap_or(UNKNOWN);
                    cookies.push((identity, cookie));
                    self.here(cookie);
                }
                Err(nix::errno::Errno::EPERM) => {
                    self.outcome.is_denied = true;
                    break;
                }
                // A file that is no namespace, or not any more.
                Err(_) => {}
            }
        }
        cookies
    }

    /// In the namespace of this thread. One dump that fails leaves the others.
    fn here(&mut self, cookie: u64) {
        if !self.concerns(cookie) {
            return;
        }
        self.outcome.searched += 1;
        let mut diag = match SockDiag::open() {
            Ok(diag) => diag,
            Err(error) => return self.outcome.errors.push(error),
        };
        for family in Family::ALL {
            for transport in Transport::ALL {
                if self.concerns(cookie) {
                    let done = self.through(&mut diag, transport, family);
                    self.outcome.errors.extend(done.err());
                }
            }
        }
    }

    fn through(
        &mut self,
        diag: &mut SockDiag,
        transport: Transport,
        family: Family,
    ) -> io::Result<()> {
        for socket in diag.connected_to(transport, family, &self.addresses)? {
            let target = self.doomed.get(&socket.cookie);
            if target.map(|target| target.peer) != Some(socket.peer) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gone::Target;

    fn pass(netns: &[u64]) -> Pass {
        let peer = (std::net::Ipv4Addr::new(192, 0, 2, 1).into(), 80);
        let target = |(netns, cookie): (&u64, u64)| {
            (
                cookie,
                Target {
                    peer,
                    netns: *netns,
                },
            )
        };
        Pass::new(netns.iter().zip(1..).map(target).collect())
    }

    #[test]
    fn namespaces_without_a_doomed_socket_are_not_asked() {
        let known = pass(&[7, 8]);
        assert!(known.concerns(7) && known.concerns(UNKNOWN));
        assert!(!known.concerns(9));
        assert!(pass(&[7, UNKNOWN]).concerns(9));
        let own = own_netns_cookie().unwrap();
        let mut destroyer = Destroyer::new(Vec::new());
        assert_eq!(destroyer.destroy(pass(&[own + 1]).doomed).searched, 0);
        assert_eq!(destroyer.destroy(pass(&[own]).doomed).searched, 1);
    }
}
