//! The way back: a socket that talks through a Service sees the Service's address, not the backend's.

use mesh_common::SocketKey;

use crate::{Env, Socket};

/// recvmsg: the sender of a datagram, for connected and unconnected sockets.
#[inline(always)]
pub(crate) fn sender<E: Env, S: Socket>(env: &E, socket: &mut S) {
    let cookie = socket.cookie();
    let (address, port) = socket.peer();
    if let Some(value) = env.socket(&SocketKey::reply(cookie, address, port))
        && value.cookie() == cookie
    {
        let (frontend, frontend_port) = value.entry().other;
        socket.set_peer(frontend, frontend_port);
        return;
    }
    peer(env, socket);
}

/// getpeername: what the socket is connected to.
#[inline(always)]
pub(crate) fn peer<E: Env, S: Socket>(env: &E, socket: &mut S) {
    let cookie = socket.cookie();
    let Some(value) = env.socket(&SocketKey::peer(cookie)) else {
        return;
    };
    let entry = value.entry();
    // The entry may be of an earlier connect of the same socket.
    if value.cookie() == cookie && entry.link == socket.peer() {
        socket.set_peer(entry.other.0, entry.other.1);
    }
}
