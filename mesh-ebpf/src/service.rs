//! Stage Service: is the destination one that a Service has? In: the socket's peer. Out: the frontend.

use mesh_common::{FrontendKey, Reason};

use crate::{
    Env, Socket,
    stage::{Hook, Stage, State, Step, Verdict},
};

#[inline(always)]
pub(crate) fn stage<E: Env, S: Socket>(env: &E, socket: &S, state: &mut State) -> Step {
    let Some(protocol) = socket.protocol() else {
        return Step::Done(Verdict::Pass);
    };
    state.asked = socket.peer();
    let (address, port) = state.asked;
    let Some(frontend) = env.frontend(&FrontendKey::new(address, port, protocol.number())) else {
        return without_frontend(env, state);
    };
    // In any other namespace the same address is that namespace's own.
    if frontend.is_for_host() && !socket.is_in_host() {
        return Step::Done(Verdict::Pass);
    }
    state.frontend = frontend;
    Step::Next(match state.hook {
        Hook::Connect => Stage::Backend,
        Hook::Sendmsg => Stage::Reuse,
    })
}

/// A ClusterIP refuses the ports it does not have; every other address is not ours.
#[inline(always)]
fn without_frontend<E: Env>(env: &E, state: &State) -> Step {
    Step::Done(
        match env.frontend(&FrontendKey::whole_address(state.asked.0)) {
            Some(_) => Verdict::Refuse(Reason::NoSuchPort),
            None => Verdict::Pass,
        },
    )
}
