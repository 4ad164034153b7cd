//! Which connected sockets lost their backend. In: addresses that no EndpointSlice and no running Pod has any more, what
//! connected sockets asked for (`peers`), and the backends in force. Out: sockets by their cookies, whom each is
//! connected to and where it is. Pure; `destroy` carries it out, `probe` asks whether it can be.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{Address, Backend, BackendState, Peer};

mod destroy;
mod pace;
mod probe;

pub use destroy::{Destroyer, Outcome};
pub use pace::Pace;
pub use probe::spared_by_kernel;

/// Sockets to be destroyed, by their cookies.
pub type Doomed = BTreeMap<u64, Target>;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address and port that it is connected to.
    pub peer: (Address, u16),
    /// The cookie of its network namespace; 0 if that is not known.
    pub netns: u64,
}

/// What to look for among the sockets that are connected through us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Addresses that departed.
    departed: BTreeMap<Address, Departure>,
    /// Endpoints that another Pod came to. Its backend serves on, and does not tell old connections from new ones.
    replaced: BTreeSet<(Address, u16)>,
    /// Every socket is looked at: who departed is not known.
    everything: bool,
}

/// What became of an address that departed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Departure {
    /// Its backends are not yet taken back.
    Pending,
    /// They are: whoever has the address again has backends of its own.
    Gone,
    /// Somebody had it again before that: the backends of before serve on, and do not tell old connections from new ones.
    Replaced,
}

impl Look {
    /// At everything: after a start, or when the source could not be read for a while.
    #[must_use]
    pub const fn everything() -> Self {
        Self {
            departed: BTreeMap::new(),
            replaced: BTreeSet::new(),
            everything: true,
        }
    }

    /// Nobody has an address any more.
    pub fn departed(&mut self, address: Address) {
        self.departed.insert(address, Departure::Pending);
    }

    /// Another Pod came to these endpoints.
    pub fn replaced(&mut self, endpoints: BTreeSet<(Address, u16)>) {
        self.replaced.extend(endpoints);
    }

    /// Before the tables change: who departed and is alive again.
    pub fn came_back(&mut self, alive: impl Fn(Address) -> bool) {
        self.pending_become(Departure::Replaced, alive);
    }

    /// After the tables have changed: whose backends were taken back.
    pub fn taken_back(&mut self, without_backend: impl Fn(Address) -> bool) {
        self.pending_become(Departure::Gone, without_backend);
    }

    fn pending_become(&mut self, next: Departure, which: impl Fn(Address) -> bool) {
        for (address, departure) in &mut self.departed {
            if *departure == Departure::Pending && which(*address) {
                *departure = next;
            }
        }
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.departed.is_empty() && self.replaced.is_empty() && !self.everything
    }

    /// Whether every socket is looked at.
    #[must_use]
    pub const fn is_of_everything(&self) -> bool {
        self.everything
    }

    /// Takes out what can be looked for now; whose backends are still to be taken back stays.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let settled = |_: &Address, departure: &mut Departure| *departure != Departure::Pending;
        Self {
            departed: self.departed.extract_if(.., settled).collect(),
            replaced: std::mem::take(&mut self.replaced),
            everything: std::mem::take(&mut self.everything),
        }
    }

    /// Adds what another one looks for.
    pub fn extend(&mut self, other: Self) {
        self.departed.extend(other.departed);
        self.replaced.extend(other.replaced);
        self.everything |= other.everything;
    }

    /// The same, for sockets that chose their backend before it was taken back and were connected after. Who came by now
    /// is spared.
    #[must_use]
    pub fn again(mut self) -> Self {
        self.replaced.clear();
        for departure in self.departed.values_mut() {
            *departure = Departure::Gone;
        }
        self
    }

    /// Whether a socket is to be looked at: nothing else is asked about the others.
    #[must_use]
    pub fn concerns(&self, peer: &Peer) -> bool {
        let (address, port) = peer.backend();
        self.everything
            || self.departed.contains_key(&address)
            || self.replaced.contains(&(address, port.get()))
    }

    /// The addresses that have to be asked about: where these sockets are connected, if everything is looked at.
    #[must_use]
    pub fn questions(&self, sockets: &[(Peer, Option<Backend>)]) -> BTreeSet<Address> {
        let all = sockets.iter().filter(|_| self.everything);
        all.map(|(peer, _)| peer.backend().0).collect()
    }

    /// The sockets whose backend is gone.
    #[must_use]
    pub fn doomed(&self, sockets: &[(Peer, Option<Backend>)], alive: &BTreeSet<Address>) -> Doomed {
        let lost = |(peer, backend): &&(Peer, Option<Backend>)| {
            let (address, port) = peer.backend();
            if self.replaced.contains(&(address, port.get())) {
                return true;
            }
            match self.departed.get(&address) {
                Some(Departure::Replaced) => true,
                Some(Departure::Gone | Departure::Pending) => !in_force(peer, backend.as_ref()),
                None => {
                    self.everything
                        && !alive.contains(&address)
                        && !in_force(peer, backend.as_ref())
                }
            }
        };
        let sockets = sockets.iter().filter(lost);
        let entry = |(peer, _): &(Peer, _)| {
            let (address, port) = peer.backend();
            let target = Target {
                peer: (address, port.get()),
                netns: peer.netns(),
            };
            (peer.cookie(), target)
        };
        sockets.map(entry).collect()
    }
}

/// Whether the backend that a socket chose is as it was then: not gone, and its id not given out again since.
fn in_force(peer: &Peer, backend: Option<&Backend>) -> bool {
    backend.is_some_and(|backend| {
        let word = backend.word();
        word.state() != BackendState::Gone
            && word.generation() == peer.generation()
            && (backend.address(), word.port()) == peer.backend()
    })
}

#[cfg(test)]
mod tests;
