//! One endpoint for another through the API, and when a client that connects all the time lands on the new one: after the
//! write was sent, and after a bare watch beside it saw the change.

use std::time::{Duration, Instant};

use anyhow::Result;
use mesh_lab::{Call, Load};

use super::{
    objects::{self, PROBE},
    witness::{Watch, Witnesses},
    world::{self, Seat, World},
};

/// Connections a second of the client: about one every half millisecond, as the baseline was measured.
const RATE: u64 = 2_000;
/// So that a proxy that gathers changes for a second is not measured by that second.
const REST: Duration = Duration::from_millis(1_200);
/// An effect that has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(120);

/// Times of one change.
#[derive(Clone, Copy)]
pub(super) struct Change {
    /// From the sending of the write to the effect.
    pub(super) effect: Duration,
    /// From the write's answer to the effect; none if the effect came first.
    pub(super) acknowledged: Duration,
    /// From the sending of the write to the bare watch.
    pub(super) watched: Duration,
}

impl Change {
    /// What the contender takes beyond the bare watch, in microseconds; negative if it was faster.
    pub(super) fn beyond(&self) -> i64 {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        micros(self.effect) - micros(self.watched)
    }
}

/// What sees changes.
pub(super) struct Probe<'a> {
    pub(super) witnesses: &'a Witnesses,
    pub(super) watch: &'a Watch,
    load: Load,
    /// Which pod is the endpoint now.
    now: usize,
}

impl<'a> Probe<'a> {
    /// A client that connects all the time.
    pub(super) fn start(
        world: &World,
        seat: &Seat,
        witnesses: &'a Witnesses,
        watch: &'a Watch,
    ) -> Result<Self> {
        let call = Call::connect(objects::frontend(PROBE))
            .rate(RATE)
            .option("--timeout", 1000);
        world::patch(&world.api, PROBE, &[witnesses.addresses[0]])?;
        std::thread::sleep(REST);
        Ok(Self {
            witnesses,
            watch,
            load: seat.client().load(&call)?,
            now: 0,
        })
    }

    /// The other pod becomes the endpoint.
    pub(super) fn change(&mut self, api: &mesh_lab::Client) -> Result<Change> {
        let next = 1 - self.now;
        self.watch.forget();
        let told = self.witnesses.await_pod(next);
        let begin = Instant::now();
        world::patch(api, PROBE, &[self.witnesses.addresses[next]])?;
        let acknowledged = Instant::now();
        let effect = told.recv_timeout(PATIENCE)?;
        let watched = self.watch.saw(self.witnesses.addresses[next], PATIENCE)?;
        self.now = next;
        Ok(Change {
            effect: effect - begin,
            acknowledged: effect.saturating_duration_since(acknowledged),
            watched: watched - begin,
        })
    }

    /// Ends the client.
    pub(super) fn stop(self) -> Result<mesh_lab::traffic::Report> {
        self.load.stop()
    }
}

/// So many changes, or as many as the limit leaves time for.
pub(super) fn measure(
    world: &World,
    seat: &Seat,
    sight: (&Witnesses, &Watch),
    count: u32,
    limit: Duration,
) -> Result<Vec<Change>> {
    let begin = Instant::now();
    let mut probe = Probe::start(world, seat, sight.0, sight.1)?;
    // The first finds everything cold: it is not counted.
    probe.change(&world.api)?;
    let mut changes = Vec::new();
    while changes.len() < usize::try_from(count)? && begin.elapsed() < limit {
        std::thread::sleep(REST);
        changes.push(probe.change(&world.api)?);
    }
    probe.stop()?;
    Ok(changes)
}
