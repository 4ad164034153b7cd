//! Stage Conntrack: is the packet of a flow that is known? Then what is to be written into it. In: the tuple. Out: the
//! target, or that a flow is to be opened, confirmed or refused; what can be confirmed with one lock is.

use mesh_common::{
    Address, BackendState, Direction, Entry, FlowKey, FlowValue, Port, Reason, Seen, is_closed,
};

use super::state::{Fragment, PASS, PacketHook, PacketStage, PacketState, PacketStep, drop, tcp};
use crate::{Env, FlowEntry};

/// Silence after which a datagram is the first of a new flow, in seconds: what the kernel's nf_conntrack gives streams.
const UDP_SILENCE: u32 = 180;

#[inline(always)]
pub(super) fn stage<E: Env>(env: &E, state: &mut PacketState) -> PacketStep {
    let found = match env.flow(&state.key) {
        Some(found) => found,
        None => return unknown(state),
    };
    let value = found.value();
    match (state.hook.direction(), value.entry()) {
        (Direction::Ingress, Some(Entry::Request)) => request(env, state, &found, &value),
        (Direction::Ingress, Some(Entry::Returning)) => {
            note(&found, &value, value.seen(), env.seconds());
            state.rewrite_to(value.target())
        }
        (Direction::Egress, Some(Entry::Reply)) => {
            note(&found, &value, seen(state, &value), env.seconds());
            state.rewrite_to(value.target())
        }
        (Direction::Egress, Some(Entry::Leaving)) => {
            (state.leaving, state.is_opening) = (found.found(), found.is_opening());
            leaving(state, &value)
        }
        (Direction::Ingress | Direction::Egress, _) => drop(Reason::Inconsistent),
    }
}

/// Flows are opened where packets come in, by what can be a first one. A TCP packet in the middle of a connection that
/// is not known may be the kernel's own conntrack's.
#[inline(always)]
fn unknown(state: &PacketState) -> PacketStep {
    let opens = match state.key.direction() {
        Direction::Egress => false,
        Direction::Ingress if state.is_tcp() => state.is_syn(),
        Direction::Ingress => state.fragment != Fragment::Later,
    };
    if opens {
        PacketStep::Next(PacketStage::Open)
    } else {
        PASS
    }
}

#[inline(always)]
fn request<E: Env>(
    env: &E,
    state: &mut PacketState,
    found: &E::Flow<'_>,
    value: &FlowValue,
) -> PacketStep {
    let opens = state.is_syn();
    if opens && is_closed(value.seen(), server_seen(env, &state.key, value.target())) {
        return again(state);
    }
    if !is_there(env, value) {
        if state.is_tcp() && !opens {
            return state.refuse(Reason::BackendGone);
        }
        return again(state);
    }
    let now = env.seconds();
    if !state.is_tcp() && now.saturating_sub(value.stamp()) >= UDP_SILENCE {
        return again(state);
    }
    note(found, value, seen(state, value), now);
    state.target = value.target();
    if found.is_opening() && !opens {
        let reply = state.key.reply(state.target);
        if !env.confirm_beside(found, &reply, !value.may_have_leaving()) {
            return PacketStep::Next(PacketStage::Confirm);
        }
    }
    PacketStep::Next(PacketStage::Rewrite)
}

/// A new flow in the place of one that is over.
#[inline(always)]
const fn again(state: &mut PacketState) -> PacketStep {
    state.is_known = true;
    PacketStep::Next(PacketStage::Open)
}

/// Whether the flow's backend is still one. Its id may be another's by now, or one of tables that were replaced.
#[inline(always)]
fn is_there<E: Env>(env: &E, value: &FlowValue) -> bool {
    let Some(backend) = env.backend(value.backend()) else {
        return !env.trusts_ids();
    };
    let word = backend.word();
    if (backend.address(), word.port()) != value.target() {
        return !env.trusts_ids();
    }
    word.state() != BackendState::Gone
        && (value.is_of_generation(word.generation()) || !env.trusts_ids())
}

/// What the backend has sent.
#[inline(always)]
pub(super) fn server_seen<E: Env>(env: &E, request: &FlowKey, backend: (Address, Port)) -> Seen {
    match env.flow(&request.reply(backend)) {
        Some(found) => found.value().seen(),
        None => Seen::NOTHING,
    }
}

#[inline(always)]
fn leaving(state: &mut PacketState, value: &FlowValue) -> PacketStep {
    let source = value.target();
    if source.1.to_be() != 0 {
        return state.rewrite_to(source);
    }
    if value.is_hairpin() || state.hook == PacketHook::ToDevice {
        return PacketStep::Next(PacketStage::Source);
    }
    PASS
}

/// What the side of an entry has sent, this packet included.
#[inline(always)]
const fn seen(state: &PacketState, value: &FlowValue) -> Seen {
    // What goes on after a reset was not reset: the RST was a stranger's.
    let mut seen = (value.seen().0 | Seen::ANY.0) & !Seen::RST.0;
    if state.tcp_flags & tcp::RST != 0 {
        seen |= Seen::RST.0;
    }
    if state.tcp_flags & tcp::FIN != 0 {
        seen |= Seen::FIN.0;
    }
    Seen(seen)
}

/// An entry is written to when it changes, at most once a second: it may be shared between processors.
#[inline(always)]
fn note<F: FlowEntry>(found: &F, value: &FlowValue, seen: Seen, now: u32) {
    if seen.0 != value.seen().0 || now != value.stamp() {
        found.note(seen, now);
    }
}
