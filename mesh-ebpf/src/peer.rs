//! What a connected socket asked for: finding, writing and clearing its entry.

use mesh_common::{PEER_WAYS, Peer, peer_place};

use crate::Env;

/// The socket's entry.
#[inline(always)]
pub(crate) fn find<E: Env>(env: &E, cookie: u64) -> Option<Peer> {
    for way in 0..PEER_WAYS {
        let place = peer_place(cookie, way);
        if env.peer_cookie(place) == cookie {
            return Some(env.peer(place)).filter(|peer| peer.cookie() == cookie);
        }
    }
    None
}

/// Whether another socket's entry had to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overwritten {
    Nobody,
    One,
}

/// Writes the socket's entry: into the first place that is free or its own. An older entry of the same socket in a
/// later place is hidden by it.
#[inline(always)]
pub(crate) fn put<E: Env>(env: &E, peer: Peer) -> Overwritten {
    let cookie = peer.cookie();
    for way in 0..PEER_WAYS {
        let place = peer_place(cookie, way);
        let holder = env.peer_cookie(place);
        if holder == 0 || holder == cookie {
            env.set_peer(place, peer);
            env.set_peer_cookie(place, cookie);
            return Overwritten::Nobody;
        }
    }
    // Sockets that live, or whose end nobody told (the kernel's own have none), hold all places: one of them is
    // overwritten. Its program sees the backend from now on, and that is all it loses.
    let place = peer_place(cookie, (cookie >> 32) as u32 % PEER_WAYS);
    env.set_peer_cookie(place, 0);
    env.set_peer(place, peer);
    env.set_peer_cookie(place, cookie);
    Overwritten::One
}

/// Clears every entry of a socket.
#[inline(always)]
pub(crate) fn clear<E: Env>(env: &E, cookie: u64) {
    for way in 0..PEER_WAYS {
        let place = peer_place(cookie, way);
        if env.peer_cookie(place) == cookie {
            env.set_peer_cookie(place, 0);
        }
    }
}
