//! Flows that another load balancer of this host began and the kernel's own conntrack carries: a datagram's flow is left
//! to it until the client has been silent for a while, and a source port that it gave away is nobody else's. In: a tuple.
//! Out: whether it is such a flow's.

use mesh_common::{Address, Direction, FlowKey, Port, Protocol};

use crate::Env;

/// Silence after which a flow is taken over, in seconds.
pub const FOREIGN_SILENCE: u32 = 30;

/// Whether a request's tuple is to be left alone. The packet counts as a sign of life.
#[inline(always)]
pub(crate) fn is_left<E: Env>(env: &E, request: &FlowKey) -> bool {
    let last = env.foreign(request);
    if last == 0 {
        return false;
    }
    let now = env.seconds();
    if now.saturating_sub(last) >= FOREIGN_SILENCE {
        return false;
    }
    if now != last {
        env.set_foreign(request, now);
    }
    true
}

/// Whether replies to this tuple are a foreign flow's.
#[inline(always)]
pub(crate) fn is_taken<E: Env>(env: &E, returning: &FlowKey) -> bool {
    env.foreign(returning) != 0
}

/// What a UDP socket that has no address of its own yet is known by: its port. Another socket may have the same one
/// elsewhere; what it sends is left to the packet path, which knows the address.
#[must_use]
#[inline(always)]
pub const fn foreign_socket(port: Port, asked: (Address, Port)) -> FlowKey {
    FlowKey::new(
        Direction::Ingress,
        Protocol::Udp,
        (Address::UNSPECIFIED, port),
        asked,
    )
}
