//! Stages Reuse, RecordPeer and RecordReply: what is remembered of a socket, so that a second datagram goes where the
//! first went and whoever asks sees the Service.

use mesh_common::{BackendState, Counter, Peer, Reason, SocketEntry, SocketKey, SocketValue};

use crate::{
    Env, Full, Socket,
    foreign::{foreign_socket, is_left},
    peer::{self, Overwritten},
    stage::{Stage, State, Step, Verdict},
};

/// Entries that sock_release takes off a socket's list. What is beyond stays, marked as closed, for the agent to sweep.
pub(crate) const MOST_RELEASED: u32 = 256;

/// Stage RecordPeer: without the entry a connection works, but getpeername shows the backend. Where the socket is spares
/// the agent a look into every pod when the backend is gone.
#[inline(always)]
pub(crate) fn connected<E: Env, S: Socket>(env: &E, socket: &S, state: &State) -> Step {
    let entry = Peer::new(
        socket.cookie(),
        state.asked,
        state.target,
        state.backend,
        state.generation,
    );
    let netns = socket.client().netns_cookie().unwrap_or_default();
    if peer::put(env, entry.within(netns)) == Overwritten::One {
        env.count(Counter::PeerForgotten);
    }
    Step::Next(Stage::Rewrite)
}

/// Stage Reuse: an unconnected socket keeps its backend per frontend until the backend is gone. Where two frontends
/// lead to one backend, its replies show the one that was asked last.
#[inline(always)]
pub(crate) fn reuse<E: Env, S: Socket>(env: &E, socket: &S, state: &mut State) -> Step {
    let cookie = socket.cookie();
    let chosen = SocketKey::chosen(cookie, state.asked.0, state.asked.1);
    let Some(value) = known(env, cookie, &chosen) else {
        if is_left(env, &foreign_socket(socket.own_port(), state.asked)) {
            return Step::Done(Verdict::Pass);
        }
        return Step::Next(Stage::Backend);
    };
    let entry = value.entry();
    let Some(backend) = env.backend(entry.id) else {
        return Step::Next(Stage::Backend);
    };
    let word = backend.word();
    if word.generation() != entry.generation || word.state() == BackendState::Gone {
        return Step::Next(Stage::Backend);
    }
    // The address may have become another Service's.
    if entry.service != state.frontend.service() {
        return Step::Next(Stage::Backend);
    }
    let reply = SocketKey::reply(cookie, entry.other.0, entry.other.1);
    let shown = known(env, cookie, &reply).map(|value| value.entry().other);
    state.backend = entry.id;
    state.generation = entry.generation;
    state.target = entry.other;
    if shown == Some(state.asked) || remember_reply(env, cookie, state).is_ok() {
        return Step::Next(Stage::Rewrite);
    }
    Step::Done(Verdict::Refuse(Reason::SocketsFull))
}

/// Stage RecordReply: without the entries the reply would come from a stranger, so the datagram is refused instead.
#[inline(always)]
pub(crate) fn reply<E: Env, S: Socket>(env: &E, socket: &S, state: &State) -> Step {
    match remember(env, socket.cookie(), state) {
        Ok(()) => {
            env.count(Counter::Forwarded);
            Step::Next(Stage::Rewrite)
        }
        Err(Full) => Step::Done(Verdict::Refuse(Reason::SocketsFull)),
    }
}

/// The way back first, the choice last: who finds a choice finds the way back too.
#[inline(always)]
fn remember<E: Env>(env: &E, cookie: u64, state: &State) -> Result<(), Full> {
    remember_reply(env, cookie, state)?;
    let chosen = SocketEntry {
        other: state.target,
        id: state.backend,
        generation: state.generation,
        service: state.frontend.service(),
        ..SocketEntry::EMPTY
    };
    put(
        env,
        &SocketKey::chosen(cookie, state.asked.0, state.asked.1),
        &mut SocketValue::new(cookie, chosen),
    )
}

#[inline(always)]
fn remember_reply<E: Env>(env: &E, cookie: u64, state: &State) -> Result<(), Full> {
    let entry = SocketEntry {
        other: state.asked,
        ..SocketEntry::EMPTY
    };
    put(
        env,
        &SocketKey::reply(cookie, state.target.0, state.target.1),
        &mut SocketValue::new(cookie, entry),
    )
}

/// The socket's own entry; an element that was reused while it was read is nobody's.
#[inline(always)]
fn known<E: Env>(env: &E, cookie: u64, key: &SocketKey) -> Option<SocketValue> {
    env.socket(key).filter(|value| value.cookie() == cookie)
}

/// Writes an entry; a new one becomes the first of the socket's list. The value is used up.
///
/// Not in line, and the head is made where the entry was: keys and values would overflow the stack of the hook, which
/// with what it calls has 512 bytes.
#[inline(never)]
fn put<E: Env>(env: &E, key: &SocketKey, value: &mut SocketValue) -> Result<(), Full> {
    let cookie = value.cookie();
    if let Some(old) = known(env, cookie, key) {
        value.set_next(old.next());
        return env.set_socket(key, value);
    }
    let head = SocketKey::head(cookie);
    value.set_next(known(env, cookie, &head).and_then(|head| head.next()));
    env.set_socket(key, value)?;
    *value = SocketValue::new(cookie, SocketEntry::EMPTY);
    value.set_next(Some(*key));
    env.set_socket(&head, value)
}

/// Takes the list off a socket that is closed.
#[inline(always)]
pub(crate) fn forget<E: Env>(env: &E, cookie: u64) {
    let head_key = SocketKey::head(cookie);
    let mut key = head_key;
    for _ in 0..=MOST_RELEASED {
        let Some(value) = known(env, cookie, &key) else {
            return;
        };
        env.remove_socket(&key);
        match value.next() {
            Some(next) => key = next,
            None => return,
        }
    }
    let mut rest = SocketValue::new(
        cookie,
        SocketEntry {
            closed: 1,
            ..SocketEntry::EMPTY
        },
    );
    rest.set_next(Some(key));
    // When even this does not fit, the agent's sweep finds entries that hang from no head.
    env.set_socket(&head_key, &rest).ok();
}
