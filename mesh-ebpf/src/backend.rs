//! Stage Backend: which endpoint serves a new connection? In: the frontend. Out: backend and target.

use mesh_common::{Backend, BackendId, BackendState, Choice, Client, FrontendValue, Reason};

use crate::{
    Env, Socket,
    affinity::Affinity,
    client,
    stage::{Hook, Stage, State, Step, Verdict},
};

/// How often the choice is made again when the backend went away between the loads of set and backend.
const TRIES: u32 = 4;

#[inline(always)]
pub(crate) fn stage<E: Env, S: Socket>(env: &E, socket: &S, state: &mut State) -> Step {
    let service = state.frontend.service();
    // Looked for by those alone that need it.
    let address = || client::address(env, socket, state.asked.0.is_v4());
    if state.frontend.has_source_ranges() {
        match address() {
            Some(address) if env.has_source(service, address) => {}
            Some(_) => return Step::Done(Verdict::Refuse(Reason::SourceNotAllowed)),
            // The packet path will see the client's address.
            None => return Step::Done(Verdict::Pass),
        }
    }
    // Clients at sockets are inside.
    let choice = state.frontend.choice(false);
    let affinity = Affinity::of(env, service, choice.is_local, || match address() {
        Some(address) => Client::from_address(address),
        None => socket.client(),
    });
    let mut last = None;
    if let Some(affinity) = &affinity {
        last = affinity.last(env);
        if last.is_none() {
            // Before its address was known the client was known by its namespace.
            last = affinity.last_as(env, socket.client());
        }
    }
    let (id, backend) = match last {
        Some(last) => last,
        None => match random(env, &state.frontend, choice) {
            Ok(chosen) => chosen,
            Err(reason) => return Step::Done(Verdict::Refuse(reason)),
        },
    };
    if let Some(affinity) = affinity {
        affinity.remember(env, id, backend.word().generation());
    }
    let word = backend.word();
    state.backend = id;
    state.generation = word.generation();
    state.target = (backend.address(), word.port());
    if backend.address().is_v4() != state.asked.0.is_v4() {
        return Step::Done(Verdict::Refuse(Reason::Inconsistent));
    }
    Step::Next(match state.hook {
        Hook::Connect => Stage::RecordPeer,
        Hook::Sendmsg => Stage::RecordReply,
    })
}

/// Why a set is empty: there is nobody at all, or nobody on this node.
#[inline(always)]
pub(crate) fn nobody<E: Env>(env: &E, frontend: &FrontendValue, choice: Choice) -> Reason {
    if choice.is_local && env.set(frontend.cluster()).count() != 0 {
        Reason::NoLocalEndpoints
    } else {
        Reason::NoEndpoints
    }
}

/// Any backend of the set, each as likely (to within 2^-32 of its share).
///
/// In line, and called from one place: where the kernel guards returns, a call costs more than all of this.
#[inline(always)]
fn random<E: Env>(
    env: &E,
    frontend: &FrontendValue,
    choice: Choice,
) -> Result<(BackendId, Backend), Reason> {
    for _ in 0..TRIES {
        let word = env.set(choice.set);
        if word.count() == 0 {
            return Err(nobody(env, frontend, choice));
        }
        let place = ((u64::from(env.random()) * u64::from(word.count())) >> 32) as u32;
        let id = env.slot(word.base().wrapping_add(place));
        if let Some(backend) = env.backend(id)
            && backend.word().state() != BackendState::Gone
        {
            return Ok((id, backend));
        }
    }
    Err(Reason::Inconsistent)
}
