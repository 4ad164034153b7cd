//! Session affinity ClientIP: a client's connections to a service port go where the last one went, as long as that is
//! at most the timeout ago and the backend takes new connections.

use mesh_common::{
    AffinityKey, AffinityValue, Backend, BackendId, BackendState, Client, FrontendValue, Reason,
};

use crate::{Env, backend};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The backend of the client's last connection, else any; either way the timeout starts anew.
#[inline(always)]
pub(crate) fn choose<E: Env>(
    env: &E,
    client: Client,
    frontend: &FrontendValue,
    seconds: u32,
) -> Result<(BackendId, Backend), Reason> {
    let key = AffinityKey::new(client, frontend.service());
    let now = env.now();
    let (id, chosen) = match last(env, &key, now, seconds) {
        Some(last) => last,
        None => backend::random(env, frontend.cluster())?,
    };
    env.set_affinity(
        &key,
        &AffinityValue::new(frontend.service(), id, chosen.word().generation(), now),
    );
    Ok((id, chosen))
}

#[inline(always)]
fn last<E: Env>(
    env: &E,
    key: &AffinityKey,
    now: u64,
    seconds: u32,
) -> Option<(BackendId, Backend)> {
    let value = env.affinity(key)?;
    // Another service's entry is an element that was reused while it was read.
    if value.service() != key.service() {
        return None;
    }
    if now.saturating_sub(value.stamp()) >= u64::from(seconds) * NANOS_PER_SECOND {
        return None;
    }
    let backend = env.backend(value.backend())?;
    let word = backend.word();
    let usable = word.generation() == value.generation() && word.state() == BackendState::Ready;
    usable.then_some((value.backend(), backend))
}
