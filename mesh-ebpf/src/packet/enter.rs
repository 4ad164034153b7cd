//! Stage Enter: a flow that has a backend gets its entries, all or none, half-open. As a rule they are new and lie together,
//! and stage Open writes them at once; this stage is for the others. In: the request's tuple, and the backend. Out: the
//! target.

use mesh_common::{Counter, FlowKey, FlowTag, FlowValue, Reason};

use super::state::{PacketHook, PacketStage, PacketState, PacketStep, drop};
use crate::{Claim, Env, FlowEntry, NotAdded, Place};

/// Who comes second uses what the first has written.
#[inline(always)]
pub(super) fn stage<E: Env>(env: &E, state: &mut PacketState) -> PacketStep {
    let (request, now) = (state.key, env.seconds());
    match claim_new(env, &request) {
        Ok(claim) => {
            if !enter_others(env, state, now) {
                // Without the rest its replies, or its requests, would not be translated.
                env.unclaim_flow(claim, &request);
                return drop(Reason::FlowsFull);
            }
            fill_request(env, state, claim, now);
        }
        Err(NotAdded::Exists) => {
            if !follow(env, state) {
                return drop(Reason::TupleInUse);
            }
        }
        Err(NotAdded::Full) => return drop(Reason::FlowsFull),
    }
    PacketStep::Next(PacketStage::Rewrite)
}

/// Takes the target of who came first. False if that is not there in time: only its own choice were left then, whose replies
/// nobody would translate.
#[inline(always)]
fn follow<E: Env>(env: &E, state: &mut PacketState) -> bool {
    env.await_flow(&state.key);
    let Some(winner) = env.flow(&state.key) else {
        return false;
    };
    state.target = winner.value().target();
    true
}

/// All of them, where that is quick and none is there; else none.
#[inline(always)]
pub(super) fn enter_together<E: Env>(env: &E, state: &PacketState) -> bool {
    let has_leaving = has_leaving(state);
    let Some(claims) = env.claim_flows(&state.key, state.target, has_leaving) else {
        return false;
    };
    let now = env.seconds();
    fill_reply(env, state, claims[1], now);
    if has_leaving {
        fill_leaving(env, state, claims[2], now);
    }
    fill_request(env, state, claims[0], now);
    true
}

/// The entries beside the request; false if there is no room.
#[inline(always)]
fn enter_others<E: Env>(env: &E, state: &PacketState, now: u32) -> bool {
    let leaving = state.key.leaving(state.target);
    let reply = leaving.reversed();
    let Some(replies) = claim(env, &reply) else {
        return false;
    };
    if has_leaving(state) {
        let Some(claim) = claim(env, &leaving) else {
            env.unclaim_flow(replies, &reply);
            return false;
        };
        fill_leaving(env, state, claim, now);
    }
    fill_reply(env, state, replies, now);
    true
}

/// In the place of what an earlier flow has left there, if anything.
#[inline(always)]
fn claim<E: Env>(env: &E, key: &FlowKey) -> Option<Claim> {
    if env.flow(key).is_some() {
        env.remove_flow(key);
    }
    claim_new(env, key).ok()
}

#[inline(always)]
fn claim_new<E: Env>(env: &E, key: &FlowKey) -> Result<Claim, NotAdded> {
    env.claim_flow(Place::Opening, key, FlowTag::of(key, env.seed()))
}

/// Whether its requests may need a source when they leave.
#[inline(always)]
fn has_leaving(state: &PacketState) -> bool {
    is_hairpin(state) || state.hook == PacketHook::FromDevice
}

#[inline(always)]
fn is_hairpin(state: &PacketState) -> bool {
    state.target.0 == state.key.source().0
}

/// The last one: by it the others are found, and removed.
#[inline(always)]
fn fill_request<E: Env>(env: &E, state: &PacketState, claim: Claim, now: u32) {
    let mut value = FlowValue::request(state.target, state.backend, now);
    if !has_leaving(state) {
        value = value.without_leaving();
    }
    env.fill_flow(claim, &state.key, &value);
    env.count(Counter::FlowOpened);
}

#[inline(always)]
fn fill_reply<E: Env>(env: &E, state: &PacketState, claim: Claim, now: u32) {
    let value = FlowValue::reply(state.key.destination(), now);
    env.fill_flow(claim, &state.key.reply(state.target), &value);
}

#[inline(always)]
fn fill_leaving<E: Env>(env: &E, state: &PacketState, claim: Claim, now: u32) {
    let value = FlowValue::leaving(is_hairpin(state), now);
    env.fill_flow(claim, &state.key.leaving(state.target), &value);
}
