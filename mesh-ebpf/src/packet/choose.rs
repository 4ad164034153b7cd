//! Which backend a flow gets: the client's last one, else one by the flow's own number, the same again for the same flow.
//!
//! As a rule the first choice is free to answer, and stage Open finds that out when it writes the flow's entries. Stage Choose
//! is for flows whose entries it could not write at once. In: the tuple, which is a Service's. Out: a backend whose replies
//! nobody else is waiting for.

use mesh_common::{
    Backend, BackendId, BackendState, Choice, Client, Direction, Entry, FlowKey, FrontendValue,
    Protocol, Reason, is_closed, spread,
};

use super::state::{PacketHook, PacketStage, PacketState, PacketStep};
use crate::{Env, FlowEntry, affinity::Affinity, backend::nobody};

/// How many backends are tried: one may have gone between two loads, or talk to this client and port already.
const TRIES: u32 = 3;

#[inline(always)]
pub(super) fn stage<E: Env>(env: &E, state: &mut PacketState) -> PacketStep {
    let Some(frontend) = env.frontend(&state.key.frontend()) else {
        // It has gone since stage Open saw it.
        return state.refuse(Reason::NoSuchPort);
    };
    let choosing = Choosing::of(env, state, frontend);
    match choosing.free(env, &state.key) {
        Ok(chosen) => state.set_backend(chosen),
        Err(reason) => return state.refuse(reason),
    }
    choosing.remember(env, state.backend);
    PacketStep::Next(PacketStage::Enter)
}

/// What a flow's choice depends on.
pub(super) struct Choosing {
    frontend: FrontendValue,
    choice: Choice,
    affinity: Option<Affinity>,
    /// The client's last backend; 0 for none. No Option: those that come of look-ups the verifier of Linux 6.1 does not
    /// understand.
    last: BackendId,
    number: u32,
}

impl Choosing {
    #[inline(always)]
    pub(super) fn of<E: Env>(env: &E, state: &PacketState, frontend: FrontendValue) -> Self {
        let choice = frontend.choice(state.hook == PacketHook::FromDevice);
        let affinity = Affinity::of(env, frontend.service(), choice.is_local, || {
            Client::from_address(state.key.source().0)
        });
        let last = match affinity.as_ref().and_then(|affinity| affinity.last(env)) {
            Some((id, _)) => id,
            None => 0,
        };
        let number = spread(state.key.digest(env.seed()) as u32);
        Self {
            frontend,
            choice,
            affinity,
            last,
            number,
        }
    }

    /// The first choice whose replies to this client and port would be this flow's.
    ///
    /// # Errors
    /// There is none, or all that were tried are another flow's.
    #[inline(always)]
    pub(super) fn free<E: Env>(
        &self,
        env: &E,
        request: &FlowKey,
    ) -> Result<(BackendId, Backend), Reason> {
        let mut reason = Reason::Inconsistent;
        for attempt in 0..TRIES {
            match self.at(env, request, attempt) {
                Ok((id, backend)) if !has_others(env, request, &backend) => {
                    return Ok((id, backend));
                }
                Ok(_) => reason = Reason::TupleInUse,
                Err(Reason::Inconsistent) => {}
                Err(reason) => return Err(reason),
            }
        }
        Err(reason)
    }

    /// A choice, whoever else it may talk to; attempt 0 is the first.
    ///
    /// # Errors
    /// There is none at all; or this one is gone: then by `Reason::Inconsistent`.
    #[inline(always)]
    pub(super) fn at<E: Env>(
        &self,
        env: &E,
        request: &FlowKey,
        attempt: u32,
    ) -> Result<(BackendId, Backend), Reason> {
        let mut id = self.last;
        if attempt != 0 || id == 0 {
            let word = env.set(self.choice.set);
            if word.count() == 0 {
                return Err(nobody(env, &self.frontend, self.choice));
            }
            let first = (u64::from(self.number) * u64::from(word.count())) >> 32;
            let mut place = first as u32 + attempt;
            if place >= word.count() {
                place %= word.count();
            }
            id = env.slot(word.base().wrapping_add(place));
        }
        let Some(backend) = env.backend(id) else {
            return Err(Reason::Inconsistent);
        };
        if backend.word().state() == BackendState::Gone
            || backend.address().is_v4() != request.destination().0.is_v4()
        {
            return Err(Reason::Inconsistent);
        }
        Ok((id, backend))
    }

    /// From now on it is the client's last one.
    #[inline(always)]
    pub(super) fn remember<E: Env>(&self, env: &E, (id, generation): (BackendId, u32)) {
        if let Some(affinity) = &self.affinity {
            affinity.remember(env, id, generation);
        }
    }
}

/// Whether what the backend sends to this client and port are the replies of a flow by another frontend. Those of one that
/// is over are nobody's.
#[inline(always)]
fn has_others<E: Env>(env: &E, request: &FlowKey, backend: &Backend) -> bool {
    let target = (backend.address(), backend.word().port());
    let Some(found) = env.flow(&request.reply(target)) else {
        return false;
    };
    let value = found.value();
    if value.target() == request.destination() {
        return false;
    }
    let other = request.to(Direction::Ingress, value.target());
    let Some(holder) = env.flow(&other) else {
        return false;
    };
    let holder = holder.value();
    let is_over =
        request.protocol() == Protocol::Tcp.number() && is_closed(holder.seen(), value.seen());
    holder.entry() == Some(Entry::Request) && !is_over
}
