//! What a connected socket asked for: finding, writing and clearing its entry.

use mesh_common::{PEER_WAYS, Peer, SocketEntry, SocketKey, SocketValue, peer_place};

use crate::{Env, Full};

/// The socket's entry.
#[inline(always)]
pub(crate) fn find<E: Env>(env: &E, cookie: u64) -> Option<Peer> {
    for way in 0..PEER_WAYS {
        let place = peer_place(cookie, way);
        if env.peer_cookie(place) == cookie {
            return Some(env.peer(place)).filter(|peer| peer.cookie() == cookie);
        }
    }
    if !env.displaced() {
        return None;
    }
    let value = env
        .socket(&SocketKey::peer(cookie))
        .filter(|value| value.cookie() == cookie)?;
    let entry = value.entry();
    Some(Peer::new(
        cookie,
        entry.other,
        entry.link,
        entry.id,
        entry.generation,
    ))
}

/// Writes the socket's entry: into the first place that is free or its own. An older entry of the same socket in a
/// later place is hidden by it.
#[inline(always)]
pub(crate) fn put<E: Env>(env: &E, peer: Peer) -> Result<(), Full> {
    let cookie = peer.cookie();
    for way in 0..PEER_WAYS {
        let place = peer_place(cookie, way);
        let holder = env.peer_cookie(place);
        if holder == 0 || holder == cookie {
            env.set_peer(place, peer);
            env.set_peer_cookie(place, cookie);
            return Ok(());
        }
    }
    // Made anew: an entry whose address is taken would be put together in memory on the way that matters, too.
    let entry = Peer::new(
        cookie,
        peer.frontend(),
        peer.backend(),
        peer.id(),
        peer.generation(),
    );
    displace(env, &entry)
}

/// Not in line: it is seldom needed, and its key and value would take half the stack of a connect.
#[inline(never)]
fn displace<E: Env>(env: &E, peer: &Peer) -> Result<(), Full> {
    let entry = SocketEntry {
        other: peer.frontend(),
        link: peer.backend(),
        id: peer.id(),
        generation: peer.generation(),
        ..SocketEntry::EMPTY
    };
    // First the sign, then the entry: who could find the entry looks for it.
    env.set_displaced();
    env.set_socket(
        &SocketKey::peer(peer.cookie()),
        &SocketValue::new(peer.cookie(), entry),
    )
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
    if env.displaced() {
        env.remove_socket(&SocketKey::peer(cookie));
    }
}
