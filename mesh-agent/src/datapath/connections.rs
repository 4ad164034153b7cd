//! Who is connected through us: `peers`, read where it lies. Mapping it costs more than looking through it does, so who
//! looks often keeps it, and lets go of it after: its pages count as the agent's memory.

use mesh_common::{Backend, BackendId, Peer, bytes_of, from_bytes};

use super::{DatapathError, Reader, dump::other_size, sys::Words};

/// Words of an entry.
const WORDS: usize = size_of::<Peer>() / 8;
const _: () = assert!(size_of::<Peer>() == WORDS * 8);

/// See the module.
#[derive(Debug)]
pub struct Connections {
    cookies: Words,
    peers: Words,
}

impl Reader {
    /// The connected sockets.
    ///
    /// # Errors
    /// If the maps are not there or cannot be mapped.
    pub fn connections(&self) -> Result<Connections, DatapathError> {
        let (cookies, _) = self.words("peer_cookies")?;
        let (peers, size) = self.words("peers")?;
        if size != WORDS {
            return Err(DatapathError::map("read", "peers")(other_size()));
        }
        Ok(Connections { cookies, peers })
    }

    /// A backend as it is now; None where the id is out of range. For maps of a running agent.
    ///
    /// # Errors
    /// If the map is not there or cannot be read.
    pub fn backend(&self, id: BackendId) -> Result<Option<Backend>, DatapathError> {
        let value = self.map("backends")?.lookup(bytes_of(&id));
        let value = value.map_err(DatapathError::map("read", "backends"))?;
        Ok(value.and_then(|bytes| from_bytes(&bytes)))
    }
}

impl Connections {
    /// Places whose entry is that of the cookie that holds them.
    pub fn peers(&self) -> impl Iterator<Item = Peer> {
        let held = (0..self.cookies.count()).map(|place| (place, self.cookies.load(place)));
        let held = held.filter(|(_, cookie)| *cookie != 0);
        held.filter_map(|(place, _)| {
            let peer = self.entry(place)?;
            (peer.cookie() == self.cookies.load(place)).then_some(peer)
        })
    }

    fn entry(&self, place: usize) -> Option<Peer> {
        let mut bytes = [0; WORDS * 8];
        for (word, bytes) in (place * WORDS..).zip(bytes.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&self.peers.load(word).to_ne_bytes());
        }
        from_bytes(&bytes)
    }
}
