//! Session affinity ClientIP: a client's connections to a service port go where the last one went, as long as that is
//! at most the timeout ago and the backend takes new connections. Each new connection starts the timeout anew.

use mesh_common::{
    AffinityKey, AffinityValue, Backend, BackendId, BackendState, Client, LOCAL_CHOICE, ServiceId,
};

use crate::Env;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A client of a service port that has affinity, at this moment.
pub(crate) struct Affinity {
    key: AffinityKey,
    seconds: u32,
    now: u64,
}

impl Affinity {
    /// None for a service port without affinity.
    #[inline(always)]
    pub(crate) fn of<E: Env>(
        env: &E,
        service: ServiceId,
        is_local: bool,
        client: impl FnOnce() -> Client,
    ) -> Option<Self> {
        let seconds = env.service(service).affinity_seconds();
        let own = if is_local { LOCAL_CHOICE } else { 0 };
        (seconds != 0).then(|| Self {
            key: AffinityKey::new(client(), service | own),
            seconds,
            now: env.now(),
        })
    }

    /// The backend of the client's last connection, while it counts.
    #[inline(always)]
    pub(crate) fn last<E: Env>(&self, env: &E) -> Option<(BackendId, Backend)> {
        self.of_key(env, &self.key)
    }

    /// The same by what the client was known by before.
    #[inline(always)]
    pub(crate) fn last_as<E: Env>(&self, env: &E, client: Client) -> Option<(BackendId, Backend)> {
        self.of_key(env, &AffinityKey::new(client, self.key.service()))
    }

    #[inline(always)]
    fn of_key<E: Env>(&self, env: &E, key: &AffinityKey) -> Option<(BackendId, Backend)> {
        let value = env.affinity(key)?;
        // Another service's entry is an element that was reused while it was read.
        if value.service() != self.key.service() {
            return None;
        }
        if self.now.saturating_sub(value.stamp()) >= u64::from(self.seconds) * NANOS_PER_SECOND {
            return None;
        }
        let backend = env.backend(value.backend())?;
        let word = backend.word();
        let usable = word.generation() == value.generation() && word.state() == BackendState::Ready;
        usable.then_some((value.backend(), backend))
    }

    /// This connection's backend is the last one now.
    #[inline(always)]
    pub(crate) fn remember<E: Env>(&self, env: &E, id: BackendId, generation: u32) {
        let value = AffinityValue::new(self.key.service(), id, generation, self.now);
        env.set_affinity(&self.key, &value);
    }
}
