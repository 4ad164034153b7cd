//! Stage Confirm: once client and backend have both spoken the flow moves to where no newcomer can push it out. A flow of two
//! entries that lie together stage Conntrack confirms by itself, if nobody is at work there; this stage is for the others. In:
//! the request's tuple. Out: the same target.

use mesh_common::{Address, Counter, Port, Reason, Seen};

use super::{
    conntrack::server_seen,
    open::forget,
    state::{PacketStage, PacketState, PacketStep},
};
use crate::{Env, FlowEntry, NotConfirmed};

#[inline(always)]
pub(super) fn stage<E: Env>(env: &E, state: &mut PacketState) -> PacketStep {
    let request = state.key;
    if !server_seen(env, &request, state.target).has(Seen::ANY) {
        return PacketStep::Next(PacketStage::Rewrite);
    }
    let leaving = request.leaving(state.target);
    // Port 0 is none: an Option over a look-up becomes code that the verifier does not understand.
    let mut source = (Address::UNSPECIFIED, Port::from_be(0));
    if let Some(found) = env.flow(&leaving) {
        source = found.value().target();
    }
    let has_source = source.1.to_be() != 0;
    // The request last: as long as it is half-open, the next packet tries again.
    let mut moved = env.confirm_flow(&leaving.reversed());
    if moved.is_ok() {
        moved = env.confirm_flow(&leaving);
    }
    if moved.is_ok() && has_source {
        moved = env.confirm_flow(&leaving.returning(source));
    }
    if moved.is_ok() {
        moved = env.confirm_flow(&request);
    }
    // Where another processor is at work the next packet tries again.
    if moved == Err(NotConfirmed::Full) {
        env.count(Counter::FlowUnconfirmed);
        // A source that was forgotten could be given to another client.
        if has_source {
            if let Some(found) = env.flow(&request) {
                forget(env, &request, &found.value());
            }
            return state.refuse(Reason::FlowsFull);
        }
        // An entry whose flow is pushed out would stay for a day.
        env.unconfirm_flow(&leaving.reversed());
        env.unconfirm_flow(&leaving);
    }
    PacketStep::Next(PacketStage::Rewrite)
}
