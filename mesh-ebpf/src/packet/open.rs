//! Stage Open: a flow begins. In: the tuple of its first packet. Out: a backend, and the flow's entries, half-open.

use mesh_common::{
    Backend, BackendId, BackendState, Choice, Client, Direction, Entry, FlowKey, FlowValue,
    FrontendKey, FrontendValue, Protocol, Reason, Seen, is_closed, spread,
};

use super::{
    enter::enter_together,
    state::{PASS, PacketHook, PacketState, PacketStep, drop},
};
use crate::{Env, FlowEntry, affinity::Affinity, backend::nobody, foreign::is_left};

/// How many backends are tried: one may have gone between two loads, or talk to this client and port already.
const TRIES: u32 = 3;

#[inline(always)]
pub(super) fn stage<E: Env>(env: &E, state: &mut PacketState) -> PacketStep {
    let (destination, port) = state.key.destination();
    let protocol = state.key.protocol();
    let frontend = env.frontend(&FrontendKey::new(destination, port, protocol));
    if frontend.is_none()
        && env
            .frontend(&FrontendKey::whole_address(destination))
            .is_some()
    {
        return state.refuse(Reason::NoSuchPort);
    }
    if !forget_ended(env, state, frontend.is_some()) {
        return state.refuse(Reason::TupleInUse);
    }
    let Some(frontend) = frontend else {
        return PASS;
    };
    // No packet for a loopback address comes by an interface rightly: what to do with it is the kernel's to say.
    if frontend.is_for_host() || is_left(env, &state.key) {
        return PASS;
    }
    let client = state.key.source().0;
    if frontend.has_source_ranges() && !env.has_source(frontend.service(), client) {
        return drop(Reason::SourceNotAllowed);
    }
    let choice = frontend.choice(state.hook == PacketHook::FromDevice);
    let affinity = Affinity::of(env, frontend.service(), choice.is_local, || {
        Client::from_address(client)
    });
    let (id, backend, is_new) = match choose(env, &state.key, &frontend, choice, affinity.as_ref())
    {
        Ok(chosen) => chosen,
        Err(reason) => return state.refuse(reason),
    };
    let word = backend.word();
    if let Some(affinity) = &affinity {
        affinity.remember(env, id, word.generation());
    }
    state.target = (backend.address(), word.port());
    state.backend = (id, word.generation());
    enter_together(env, state, is_new)
}

/// What the packet shows to be over. Of a Service: what is known under its own tuple, as stage Conntrack has found. Past
/// Services: a flow between the same ends, or what the one end answers would be taken for that flow's. False if that flow
/// is a connection that has not ended.
#[inline(always)]
fn forget_ended<E: Env>(env: &E, state: &PacketState, is_service: bool) -> bool {
    let (mut request, mut answered) = (state.key, Seen::RST);
    if is_service && !state.is_known {
        return true;
    }
    if !is_service {
        let reply = request.reply(request.destination());
        let Some(found) = env.flow(&reply) else {
            return true;
        };
        answered = found.value().seen();
        request = request.to(Direction::Ingress, found.value().target());
    }
    let Some(found) = env.flow(&request) else {
        return true;
    };
    let asked = found.value();
    if asked.entry() != Some(Entry::Request) {
        return true;
    }
    if state.is_tcp() && !is_closed(asked.seen(), answered) {
        return false;
    }
    forget(env, &request, &asked);
    true
}

/// Removes a flow, the request last: without it the rest is nobody's.
#[inline(always)]
pub(super) fn forget<E: Env>(env: &E, request: &FlowKey, value: &FlowValue) {
    let backend = value.target();
    let leaving = request.leaving(backend);
    env.remove_flow(&leaving.reversed());
    if let Some(found) = env.flow(&leaving) {
        let source = found.value().target();
        if source.1.to_be() != 0 {
            env.remove_flow(&leaving.returning(source));
        }
        env.remove_flow(&leaving);
    }
    env.remove_flow(request);
}

/// The client's last backend, else one by the flow's own number: the same again for the same flow. With whether its replies
/// are new.
#[inline(always)]
fn choose<E: Env>(
    env: &E,
    request: &FlowKey,
    frontend: &FrontendValue,
    choice: Choice,
    affinity: Option<&Affinity>,
) -> Result<(BackendId, Backend, bool), Reason> {
    // A number and no Option: those that come of look-ups the verifier of Linux 6.1 does not understand.
    let last = match affinity.and_then(|affinity| affinity.last(env)) {
        Some((id, _)) => id,
        None => 0,
    };
    let number = spread(request.digest(env.seed()) as u32);
    let mut reason = Reason::Inconsistent;
    for attempt in 0..TRIES {
        let mut id = last;
        if attempt != 0 || last == 0 {
            let word = env.set(choice.set);
            if word.count() == 0 {
                return Err(nobody(env, frontend, choice));
            }
            let first = (u64::from(number) * u64::from(word.count())) >> 32;
            let mut place = first as u32 + attempt;
            if place >= word.count() {
                place %= word.count();
            }
            id = env.slot(word.base().wrapping_add(place));
        }
        let Some(backend) = env.backend(id) else {
            continue;
        };
        if backend.word().state() == BackendState::Gone {
            continue;
        }
        if backend.address().is_v4() != request.destination().0.is_v4() {
            return Err(Reason::Inconsistent);
        }
        match replies(env, request, &backend) {
            Replies::Taken => reason = Reason::TupleInUse,
            Replies::New => return Ok((id, backend, true)),
            Replies::Free => return Ok((id, backend, false)),
        }
    }
    Err(reason)
}

/// What the tuple of the replies says about a flow that would have them.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Replies {
    /// They are nobody's.
    New,
    /// They may be this flow's: they are, or were those of one that is over.
    Free,
    /// They are those of a flow by another frontend.
    Taken,
}

/// Whether the replies of the backend to this client and port would be this flow's.
#[inline(always)]
fn replies<E: Env>(env: &E, request: &FlowKey, backend: &Backend) -> Replies {
    let target = (backend.address(), backend.word().port());
    let reply = request.reply(target);
    let Some(found) = env.flow(&reply) else {
        return Replies::New;
    };
    let value = found.value();
    if value.target() == request.destination() {
        return Replies::Free;
    }
    let other = request.to(Direction::Ingress, value.target());
    let Some(holder) = env.flow(&other) else {
        return Replies::Free;
    };
    let holder = holder.value();
    let is_over =
        request.protocol() == Protocol::Tcp.number() && is_closed(holder.seen(), value.seen());
    if holder.entry() != Some(Entry::Request) || is_over {
        return Replies::Free;
    }
    Replies::Taken
}
