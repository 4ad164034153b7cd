//! The hooks: what the kernel side calls, one function each.

use mesh_common::{Counter, Protocol};

use crate::{
    Connection, Env, Socket, client, peer, record, reply,
    stage::{self, Hook, Verdict},
};

/// A socket connects: TCP, or UDP that is to have one peer.
#[inline(always)]
pub fn connect<E: Env, S: Socket>(env: &E, socket: &mut S) -> Verdict {
    let verdict = stage::walk(Hook::Connect, env, socket);
    match verdict {
        Verdict::Forward => env.count(Counter::Forwarded),
        // A UDP socket may have been connected to a Service before.
        Verdict::Pass if socket.protocol() == Some(Protocol::Udp) => {
            peer::clear(env, socket.cookie());
        }
        Verdict::Pass | Verdict::Refuse(_) => {}
    }
    counted(env, verdict)
}

/// A UDP socket sends to an address that the call names. The first datagram to a Service counts as a connection.
#[inline(always)]
pub fn sendmsg<E: Env, S: Socket>(env: &E, socket: &mut S) -> Verdict {
    counted(env, stage::walk(Hook::Sendmsg, env, socket))
}

/// A UDP socket is told who sent a datagram.
#[inline(always)]
pub fn recvmsg<E: Env, S: Socket>(env: &E, socket: &mut S) {
    reply::sender(env, socket);
}

/// A program asks whom a socket is connected to.
#[inline(always)]
pub fn getpeername<E: Env, S: Socket>(env: &E, socket: &mut S) {
    reply::connected(env, socket);
}

/// A TCP connection that this host's side began has been answered.
#[inline(always)]
pub fn established<E: Env, C: Connection>(env: &E, connection: &C) {
    client::learn(env, connection);
}

/// A socket is closed: what is remembered of it goes.
#[inline(always)]
pub fn release<E: Env>(env: &E, cookie: u64, protocol: Option<Protocol>) {
    let Some(protocol) = protocol else {
        return;
    };
    peer::clear(env, cookie);
    if protocol == Protocol::Udp {
        record::forget(env, cookie);
    }
}

/// Every refusal adds to exactly one reason, here.
#[inline(always)]
fn counted<E: Env>(env: &E, verdict: Verdict) -> Verdict {
    if let Verdict::Refuse(reason) = verdict {
        env.count(Counter::Refused(reason));
    }
    verdict
}
