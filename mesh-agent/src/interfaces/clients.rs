//! Who the clients at sockets are: the cookie of each local pod's network namespace, and the pod's addresses. In come
//! the interfaces, out goes the map that is to be in the kernel. Namespaces are found as files, by the ids that links have
//! for them, and each is entered once.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
    path::PathBuf,
};

use nix::sched::{CloneFlags, setns};

use super::classify::{Interfaces, PodLink};
use crate::{
    datapath::own_netns_cookie,
    netlink::{Request, Socket, attributes, flag, kind},
};

/// Where container runtimes keep namespaces as files.
pub const NETNS_DIRECTORIES: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// Attributes of RTM_GETNSID, and the length of rtgenmsg with its padding.
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
const BODY: usize = 4;

/// Clients by the cookies of their namespaces.
pub type Clients = BTreeMap<u64, ClientAddresses>;

/// What a client at a socket is known by. A family in which it has several addresses, or none, is missing: which one it
/// would use is not guessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientAddresses {
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// A local pod; otherwise the node itself.
    pub local_pod: bool,
}

/// What is known of namespaces.
#[derive(Debug)]
pub(super) struct Namespaces {
    directories: Vec<PathBuf>,
    /// The node's own.
    own: Option<u64>,
    /// Cookies by the id of a namespace, and which pod had that id then: ids are used again.
    cookies: BTreeMap<i32, (u64, u64)>,
    /// That namespaces cannot be entered is said once.
    is_denied: bool,
}

impl Namespaces {
    pub(super) fn new(directories: Vec<PathBuf>) -> Self {
        let own = own_netns_cookie().map_err(|error| {
            tracing::info!(%error, "clients at sockets stay unknown: the kernel has no namespace cookies");
        });
        Self {
            directories,
            own: own.ok(),
            cookies: BTreeMap::new(),
            is_denied: false,
        }
    }

    /// The clients among these interfaces. Namespaces that are new are entered.
    pub(super) fn clients(&mut self, socket: &mut Socket, interfaces: &Interfaces) -> Clients {
        let first_seen = oldest(interfaces);
        let same = |nsid: &i32, known: &(u64, u64)| first_seen.get(nsid) == Some(&known.0);
        self.cookies.retain(|nsid, known| same(nsid, known));
        let mut unknown = first_seen;
        unknown.retain(|nsid, _| !self.cookies.contains_key(nsid));
        if self.own.is_some() && !self.is_denied && !unknown.is_empty() {
            self.enter(socket, &unknown);
        }
        self.known(interfaces)
    }

    fn enter(&mut self, socket: &mut Socket, unknown: &BTreeMap<i32, u64>) {
        let mut files = self.files(socket);
        files.retain(|nsid, _| unknown.contains_key(nsid));
        match cookies(files) {
            Ok(found) => {
                let number = |nsid| unknown.get(&nsid).copied().unwrap_or_default();
                let found = found.into_iter();
                self.cookies
                    .extend(found.map(|(nsid, cookie)| (nsid, (number(nsid), cookie))));
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.is_denied = true;
                tracing::info!(
                    %error,
                    "pods are known at sockets from their first connection on: entering their namespaces takes CAP_SYS_ADMIN"
                );
            }
            Err(error) => tracing::debug!(%error, "namespaces are entered at the next look"),
        }
    }

    /// Namespaces that are files, by the ids that this one has for them.
    fn files(&self, socket: &mut Socket) -> BTreeMap<i32, File> {
        let entries = self
            .directories
            .iter()
            .filter_map(|it| fs::read_dir(it).ok());
        let files = entries.flatten().flatten();
        let files = files.filter_map(|entry| File::open(entry.path()).ok());
        files
            .filter_map(|file| Some((nsid(socket, &file)?, file)))
            .collect()
    }

    fn known(&self, interfaces: &Interfaces) -> Clients {
        let mut clients = Clients::new();
        let mut nodes = interfaces.devices.values();
        let node = ClientAddresses {
            v4: nodes.find_map(|device| device.v4),
            v6: interfaces.devices.values().find_map(|device| device.v6),
            local_pod: false,
        };
        clients.extend(self.own.map(|cookie| (cookie, node)));
        for (nsid, (_, cookie)) in &self.cookies {
            let links = interfaces.pods.values();
            let links = links.filter(|pod| pod.nsid == Some(*nsid));
            // One that has no address yet is not known, or nothing would be learned of it.
            if links.clone().any(|pod| !pod.addresses.is_empty()) {
                clients.insert(*cookie, pod(links));
            }
        }
        clients
    }
}

/// The first link of each namespace: what makes an id that is used again another one.
fn oldest(interfaces: &Interfaces) -> BTreeMap<i32, u64> {
    let mut oldest = BTreeMap::new();
    for pod in interfaces.pods.values() {
        if let Some(nsid) = pod.nsid.filter(|nsid| *nsid >= 0) {
            let number = oldest.entry(nsid).or_insert(pod.first_seen);
            *number = pod.first_seen.min(*number);
        }
    }
    oldest
}

fn pod<'a>(links: impl Iterator<Item = &'a PodLink>) -> ClientAddresses {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for address in links.flat_map(|link| &link.addresses) {
        match address {
            IpAddr::V4(address) => v4.push(*address),
            IpAddr::V6(address) => v6.push(*address),
        }
    }
    ClientAddresses {
        v4: only(&v4),
        v6: only(&v6),
        local_pod: true,
    }
}

fn only<T: Copy>(all: &[T]) -> Option<T> {
    match all {
        [one] => Some(*one),
        _ => None,
    }
}

/// The id that this namespace has for one that is a file; None if it has none, or the file is no namespace.
fn nsid(socket: &mut Socket, file: &File) -> Option<i32> {
    let fd = file.as_raw_fd().to_ne_bytes();
    let request = Request::new(kind::GETNSID, flag::ACK, &[0; BODY]).with(NETNSA_FD, &fd);
    let answer = socket.ask(request).ok()??;
    let nsid = attributes(&answer, BODY).number(NETNSA_NSID)?.cast_signed();
    (nsid >= 0).then_some(nsid)
}

/// Enters each namespace, on a thread that ends after: it could not be trusted to be back in its own.
fn cookies(files: BTreeMap<i32, File>) -> io::Result<BTreeMap<i32, u64>> {
    if files.is_empty() {
        return Ok(BTreeMap::new());
    }
    let visit = move || {
        let cookie = |(nsid, file): (i32, File)| {
            setns(&file, CloneFlags::CLONE_NEWNET)?;
            Ok((nsid, own_netns_cookie()?))
        };
        files.into_iter().map(cookie).collect()
    };
    let visitor = std::thread::Builder::new().name("netns".to_owned());
    let visited = visitor.spawn(visit)?.join();
    visited.unwrap_or_else(|_| {
        Err(io::Error::other(
            "the thread that enters namespaces broke down",
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(pods: &[(u32, i32, u64, &[&str])]) -> Interfaces {
        let link = |(index, nsid, first_seen, addresses): &(u32, i32, u64, &[&str])| {
            let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let pod = PodLink {
                nsid: Some(*nsid),
                first_seen: *first_seen,
                addresses,
                ..Default::default()
            };
            (*index, pod)
        };
        Interfaces {
            pods: pods.iter().map(link).collect(),
            ..Default::default()
        }
    }

    fn namespaces(cookies: &[(i32, (u64, u64))]) -> Namespaces {
        Namespaces {
            directories: Vec::new(),
            own: None,
            cookies: cookies.iter().copied().collect(),
            is_denied: true,
        }
    }

    #[test]
    fn a_pod_is_known_by_its_only_address_of_each_family() {
        let interfaces = pods(&[
            (4, 0, 1, &["10.1.0.2", "fd00::2"]),
            (5, 1, 2, &["10.1.0.3"]),
            (6, 1, 3, &["10.1.0.4", "fd00::4"]),
            (7, 2, 4, &[]),
        ]);
        let cookies = [(0, (1, 100)), (1, (2, 101)), (2, (4, 102))];
        let known = namespaces(&cookies).known(&interfaces);
        assert!(!known.contains_key(&102));
        assert_eq!(known[&100].v4, Some("10.1.0.2".parse().unwrap()));
        assert_eq!(known[&100].v6, Some("fd00::2".parse().unwrap()));
        assert_eq!(
            (known[&101].v4, known[&101].v6),
            (None, Some("fd00::4".parse().unwrap()))
        );
    }

    #[test]
    fn an_id_used_again_is_not_believed() {
        let mut socket = Socket::open().unwrap();
        let mut namespaces = namespaces(&[(0, (1, 100))]);
        let interfaces = pods(&[(4, 0, 1, &["10.1.0.2"])]);
        assert!(
            namespaces
                .clients(&mut socket, &interfaces)
                .contains_key(&100)
        );
        let interfaces = pods(&[(4, 0, 2, &["10.1.0.9"])]);
        assert!(namespaces.clients(&mut socket, &interfaces).is_empty());
    }
}
