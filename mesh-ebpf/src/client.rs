//! Who a client at a socket is. In: the cookie of its network namespace. Out: its address, from what the agent knows,
//! or else from what the namespace's own connections have shown.

use mesh_common::{Address, LearnedClient};

use crate::{Connection, Env, Socket};

/// The client's address in a family: that of its network namespace. An unbound socket has none yet.
#[inline(always)]
pub(crate) fn address<E: Env, S: Socket>(env: &E, socket: &S, is_v4: bool) -> Option<Address> {
    let cookie = socket.client().netns_cookie()?;
    match env.client(cookie) {
        Some(known) if known.is_of(cookie) => known.address(cookie, is_v4),
        _ => learned(env, cookie)?.address(is_v4),
    }
}

/// A TCP connection has been answered: what it calls itself is an address of its network namespace. A connection that
/// only begins would prove nothing, since its address might be one at which nobody answers it. For the same reason nothing
/// is learned within a host, or where both ends are one address: whoever may set up a namespace can have any address
/// there.
#[inline(always)]
pub(crate) fn learn<E: Env, C: Connection>(env: &E, connection: &C) {
    let cookie = connection.netns_cookie();
    if env.client(cookie).is_some_and(|known| known.is_of(cookie)) {
        return;
    }
    let (own, peer) = (connection.own(), connection.peer());
    if own.is_local_scope() || own == peer {
        return;
    }
    let known = learned(env, cookie).unwrap_or(LearnedClient::new(cookie));
    if let Some(value) = known.with(own) {
        env.set_learned_client(cookie, &value);
    }
}

#[inline(always)]
fn learned<E: Env>(env: &E, cookie: u64) -> Option<LearnedClient> {
    let learned = env.learned_client(cookie);
    learned.filter(|it| it.cookie() == cookie)
}
