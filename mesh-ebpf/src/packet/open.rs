//! Stage Open: a flow begins. In: the tuple of its first packet. Out: a backend, and the flow's entries, half-open.

use mesh_common::{Direction, Entry, FlowKey, FlowValue, FrontendKey, Reason, Seen, is_closed};

use super::{
    choose::Choosing,
    enter::enter_together,
    state::{PASS, PacketStage, PacketState, PacketStep, drop},
};
use crate::{Env, FlowEntry, foreign::is_left};

#[inline(always)]
pub(super) fn stage<E: Env>(env: &E, state: &mut PacketState) -> PacketStep {
    let frontend = env.frontend(&state.key.frontend());
    let whole = FrontendKey::whole_address(state.key.destination().0);
    if frontend.is_none() && env.frontend(&whole).is_some() {
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
    let choosing = Choosing::of(env, state, frontend);
    match choosing.at(env, &state.key, 0) {
        Ok(chosen) => state.set_backend(chosen),
        Err(Reason::Inconsistent) => return PacketStep::Next(PacketStage::Choose),
        Err(reason) => return state.refuse(reason),
    }
    if !enter_together(env, state) {
        return PacketStep::Next(PacketStage::Choose);
    }
    choosing.remember(env, state.backend);
    PacketStep::Next(PacketStage::Rewrite)
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
