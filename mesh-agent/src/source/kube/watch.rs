//! One kind's watch, for ever: lists, follows, waits after errors, lists anew when it has to.

use std::{
    fmt::Debug,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use kube::{
    Api, Resource,
    runtime::watcher::{self, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc::Sender, time::Instant};

use super::{
    super::{Moment, Problem, decode::Manifest},
    table::{Event, Table},
    trouble,
};
use crate::{
    engine::{Random, SplitMix},
    model::{Change, Kind},
};

/// Waits after errors in a row: the first, and the most. Each is shortened by chance, by up to half.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const MOST_WAIT: Duration = Duration::from_secs(5);
/// An error after a time without any is the first of its row.
const CALM: Duration = Duration::from_secs(30);

/// What a watch tells.
#[derive(Debug)]
pub(super) enum Told {
    /// What comes of an event, and when that was decoded.
    Changes(Vec<Change>, Moment),
    /// What is wrong with the watch, and whether other credentials may mend it.
    Failed(Kind, Problem, bool),
    /// Whether the server answered a question, asked because no watch had a word for long.
    Answered(bool),
}

/// A table, and who is told what comes of it. Tables outlive watches: the next one is compared with them.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) table: Arc<Mutex<Table>>,
    pub(super) told: Sender<Told>,
}

impl Output {
    /// None when nobody listens any more.
    async fn event<M: Manifest>(&self, event: Event<M>) -> Option<()> {
        let is_change = matches!(event, Event::Apply(_) | Event::Delete(_));
        let changes = self.take(event);
        if changes.is_empty() {
            return Some(());
        }
        let told = Told::Changes(changes, Moment::now());
        self.told.send(told).await.ok()?;
        if is_change {
            // It is to be in force before the next one is decoded; the objects of a list come in large batches.
            tokio::task::yield_now().await;
        }
        Some(())
    }

    fn take<M: Manifest>(&self, event: Event<M>) -> Vec<Change> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.take(event)
    }
}

/// What is watched and how.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) labels: Option<String>,
    pub(super) fields: Option<String>,
    /// Whether the server may know streaming lists.
    pub(super) streaming: bool,
    /// For waits that do not all end at one time.
    pub(super) seed: u64,
}

impl Settings {
    fn config(&self, streaming: bool) -> watcher::Config {
        let mut config = watcher::Config::default();
        config.label_selector.clone_from(&self.labels);
        config.field_selector.clone_from(&self.fields);
        if streaming {
            config.streaming_lists()
        } else {
            config
        }
    }
}

/// Runs until nobody listens.
pub(super) async fn run<K>(api: Api<K>, settings: Settings, output: Output)
where
    K: Manifest + Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut random = SplitMix(settings.seed);
    let mut streaming = settings.streaming;
    let mut waits = Waits::default();
    loop {
        let chance = (&mut waits, &mut random);
        let again = follow(&api, &settings, streaming, &output, chance).await;
        match again {
            Again::InPages => streaming = false,
            Again::Anew => {}
            Again::NoMore => return,
        }
    }
}

/// Why a watch ended.
enum Again {
    /// The server knows no streaming lists.
    InPages,
    /// It has to begin with a list.
    Anew,
    /// Nobody listens.
    NoMore,
}

async fn follow<K>(
    api: &Api<K>,
    settings: &Settings,
    streaming: bool,
    output: &Output,
    (waits, random): (&mut Waits, &mut SplitMix),
) -> Again
where
    K: Manifest + Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = pin!(watcher(api.clone(), settings.config(streaming)));
    while let Some(event) = events.next().await {
        let listens = match event {
            Ok(event) => output.event::<K>(event.into()).await,
            Err(error) if streaming && trouble::knows_no_streaming_lists(&error) => {
                tracing::info!(kind = %K::KIND, "the API server streams no lists: asking for pages");
                return Again::InPages;
            }
            Err(error) => {
                let problem = trouble::of_watch(K::KIND, &error);
                let refused = trouble::refuses_credentials(&error);
                let failed = Told::Failed(K::KIND, problem, refused);
                let sent = output.told.send(failed).await;
                tokio::time::sleep(waits.next(Instant::now(), random)).await;
                if trouble::forgot_the_version(&error) {
                    // The library would ask for the same version for ever.
                    return Again::Anew;
                }
                sent.ok()
            }
        };
        if listens.is_none() {
            return Again::NoMore;
        }
    }
    Again::NoMore
}

impl<K> From<watcher::Event<K>> for Event<K> {
    fn from(event: watcher::Event<K>) -> Self {
        match event {
            watcher::Event::Apply(object) => Self::Apply(object),
            watcher::Event::Delete(object) => Self::Delete(object),
            watcher::Event::Init => Self::Init,
            watcher::Event::InitApply(object) => Self::InitApply(object),
            watcher::Event::InitDone => Self::InitDone,
        }
    }
}

/// How long to wait after errors in a row.
#[derive(Debug, Default)]
pub(super) struct Waits {
    row: u32,
    last: Option<Instant>,
}

impl Waits {
    pub(super) fn next(&mut self, now: Instant, random: &mut SplitMix) -> Duration {
        if self.last.is_none_or(|last| now.duration_since(last) > CALM) {
            self.row = 0;
        }
        self.last = Some(now);
        let whole = FIRST_WAIT
            .saturating_mul(1 << self.row.min(16))
            .min(MOST_WAIT);
        self.row += 1;
        let thousandths = u32::try_from(random.next() % 501).unwrap_or_default();
        whole - whole * thousandths / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_spread() {
        let (mut waits, mut random) = (Waits::default(), SplitMix(1));
        let mut now = Instant::now();
        for row in 0..12_u32 {
            let most = (FIRST_WAIT * (1 << row)).min(MOST_WAIT);
            let wait = waits.next(now, &mut random);
            assert!(wait <= most && wait >= most / 2, "{row}: {wait:?}");
            now += wait;
        }
        assert!(waits.next(now + CALM * 2, &mut random) <= FIRST_WAIT);
    }
}
