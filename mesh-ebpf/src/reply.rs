//! The way back: a socket that talks through a Service sees the Service's address, not the backend's.

use mesh_common::SocketKey;

use crate::{Env, Socket, peer};

/// recvmsg: the sender of a datagram, for connected and unconnected sockets.
#[inline(always)]
pub(crate) fn sender<E: Env, S: Socket>(env: &E, socket: &mut S) {
    if connected(env, socket) {
        return;
    }
    let cookie = socket.cookie();
    let (address, port) = socket.peer();
    if let Some(value) = env.socket(&SocketKey::reply(cookie, address, port))
        && value.cookie() == cookie
    {
        let (frontend, frontend_port) = value.entry().other;
        socket.set_peer(frontend, frontend_port);
    }
}

/// getpeername, and recvmsg of a connected socket: shows the Service if the address is the backend the socket is
/// connected to. The entry may be of an earlier connect of the same socket, and then it is not.
#[inline(always)]
pub(crate) fn connected<E: Env, S: Socket>(env: &E, socket: &mut S) -> bool {
    let Some(peer) = peer::find(env, socket.cookie()) else {
        return false;
    };
    let is_backend = peer.backend() == socket.peer();
    if is_backend {
        let (frontend, port) = peer.frontend();
        socket.set_peer(frontend, port);
    }
    is_backend
}
