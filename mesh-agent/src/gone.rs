//! Which connected sockets lost their backend. In: addresses that no EndpointSlice and no running Pod has any more, what
//! connected sockets asked for (`peers`), and the backends in force. Out: sockets by their cookies, and whom each is
//! connected to. Pure; `destroy` carries it out.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{Address, Backend, BackendState, Peer};

mod destroy;

pub use destroy::{Destroyer, Outcome, spared_by_kernel};

/// Sockets to be destroyed, by their cookies, and the address and port that each is connected to.
pub type Doomed = BTreeMap<u64, (Address, u16)>;

/// What to look for among the sockets that are connected through us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Addresses that departed.
    departed: BTreeMap<Address, Departure>,
    /// Every socket is looked at: who departed is not known.
    everything: bool,
}

/// Who has an address that departed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Departure {
    /// Nobody, or somebody for whom a backend of its own was made.
    Gone,
    /// Somebody, at once: the backend of before serves on, and does not tell old connections from new ones.
    Replaced,
}

impl Look {
    /// At everything: after a start, or when the source could not be read for a while.
    #[must_use]
    pub const fn everything() -> Self {
        Self {
            departed: BTreeMap::new(),
            everything: true,
        }
    }

    /// An address departed; whether somebody has it again already.
    pub fn departed(&mut self, address: Address, came_back: bool) {
        let departure = if came_back {
            Departure::Replaced
        } else {
            Departure::Gone
        };
        // Gone and back and gone: by now the backend is gone as well.
        self.departed.insert(address, departure);
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.departed.is_empty() && !self.everything
    }

    /// Whether every socket is looked at.
    #[must_use]
    pub const fn is_of_everything(&self) -> bool {
        self.everything
    }

    /// Takes out what can be looked for now: addresses without a backend that is still to be taken back, as `settled` says.
    #[must_use]
    pub fn take_settled(&mut self, settled: impl Fn(Address) -> bool) -> Self {
        Self {
            departed: self
                .departed
                .extract_if(.., |address, _| settled(*address))
                .collect(),
            everything: std::mem::take(&mut self.everything),
        }
    }

    /// Adds what another one looks for.
    pub fn extend(&mut self, other: Self) {
        self.departed.extend(other.departed);
        self.everything |= other.everything;
    }

    /// The same, for sockets that chose their backend before it was taken back and were connected after. Who came by now
    /// is spared.
    #[must_use]
    pub fn again(mut self) -> Self {
        for departure in self.departed.values_mut() {
            *departure = Departure::Gone;
        }
        self
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
            let address = peer.backend().0;
            match self.departed.get(&address) {
                Some(Departure::Replaced) => true,
                Some(Departure::Gone) => !in_force(peer, backend.as_ref()),
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
            (peer.cookie(), (address, port.get()))
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
