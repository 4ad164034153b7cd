//! What the threads share: the engine under a lock, and what servers read without it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Config, views};
use crate::{
    admin::Introspect,
    apply::Clock,
    datapath::{Datapath, Maps, Opened, Operations, sys},
    engine::{Engine, Random},
    model::ObjectName,
    plan::{Applied, Time},
    source::Problem,
    store::Store,
    telemetry::{
        Health, LogLevel, MapFigures, MapOperations, MapView, Scrape, ServiceView, SocketCounts,
        StatusView,
    },
};

/// The engine over the kernel's maps.
pub(super) type KernelEngine = Engine<Maps, Monotonic, SplitMix>;

/// The kernel's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Monotonic;

impl Clock for Monotonic {
    fn now(&self) -> Time {
        Time::from_nanos(sys::monotonic_nanoseconds())
    }
}

/// SplitMix64, to spread retries. Nothing secret hangs on it.
#[derive(Debug)]
pub(super) struct SplitMix(u64);

impl Random for SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// See the module.
pub(super) struct Shared {
    engine: Mutex<KernelEngine>,
    datapath: Mutex<Datapath>,
    problems: Mutex<Problems>,
    operations: Arc<Operations>,
    pub(super) health: Arc<Health>,
    level: LogLevel,
    node: String,
    source: String,
}

/// What the source found wrong: now, and how much ever.
#[derive(Debug, Default)]
struct Problems {
    now: Vec<Problem>,
    ever: u64,
}

impl Shared {
    pub(super) fn new(
        config: &Config,
        opened: Opened,
        health: Arc<Health>,
        level: LogLevel,
    ) -> Self {
        let capacities = config.datapath.sizes.capacities();
        let now = Monotonic.now();
        let applied = match &opened.dump {
            Some(dump) => Applied::restore(dump, capacities, now),
            None => Applied::new(capacities),
        };
        let seed = sys::monotonic_nanoseconds() ^ u64::from(std::process::id());
        Self {
            operations: opened.maps.operations(),
            engine: Mutex::new(Engine::new(
                Store::default(),
                applied,
                opened.maps,
                Monotonic,
                SplitMix(seed),
            )),
            datapath: Mutex::new(opened.datapath),
            problems: Mutex::default(),
            health,
            level,
            node: config.node.clone(),
            source: format!("dir:{}", config.source.display()),
        }
    }

    /// The engine. A thread that broke down while it held the lock left a consistent mirror: each write is recorded
    /// after it was made.
    pub(super) fn engine(&self) -> MutexGuard<'_, KernelEngine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn datapath(&self) -> MutexGuard<'_, Datapath> {
        self.datapath.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the source's problems in; gives back those that are new.
    pub(super) fn set_problems(&self, problems: Vec<Problem>) -> Vec<Problem> {
        let mut held = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<Problem> = problems
            .iter()
            .filter(|problem| !held.now.contains(problem))
            .cloned()
            .collect();
        held.ever += u64::try_from(new.len()).unwrap_or_default();
        held.now = problems;
        new
    }

    fn source_problems(&self) -> (Vec<Problem>, u64) {
        let held = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        (held.now.clone(), held.ever)
    }
}

impl Introspect for Shared {
    fn status(&self) -> StatusView {
        let programs = self.datapath().programs();
        let maps = self.maps();
        let engine = self.engine();
        let (problems, _) = self.source_problems();
        let mut status = views::status(&engine, &problems);
        drop(engine);
        status.node.clone_from(&self.node);
        status.source.clone_from(&self.source);
        status.ready = self.health.is_ready();
        status.healthy =
            status.ready && status.dirty == 0 && programs.iter().all(|program| program.attached);
        status.maps = maps.into_iter().map(map_view).collect();
        status.programs = programs;
        status
    }

    fn services(&self) -> Vec<ServiceView> {
        let engine = self.engine();
        engine
            .service_views()
            .map(|view| views::service(engine.store(), &view))
            .collect()
    }

    fn service(&self, name: &ObjectName) -> Option<ServiceView> {
        let engine = self.engine();
        engine
            .service_view(name)
            .map(|view| views::service(engine.store(), &view))
    }

    fn set_log_level(&self, directives: &str) -> Result<(), String> {
        self.level
            .set(directives)
            .map_err(|error| error.to_string())?;
        tracing::info!(directives, "log level changed");
        Ok(())
    }
}

impl Scrape for Shared {
    fn maps(&self) -> Vec<MapFigures> {
        let mut engine = self.engine();
        let usage = engine.usage();
        let mut figures = engine.writer().figures();
        for figure in &mut figures {
            if let Some(usage) = usage.iter().find(|usage| usage.map == figure.map) {
                figure.entries = u64::try_from(usage.entries).ok();
            }
        }
        figures
    }

    fn operations(&self) -> Vec<MapOperations> {
        self.operations.figures()
    }

    fn counts(&self) -> SocketCounts {
        self.engine().writer().flows().counts()
    }

    fn dirty(&self) -> u64 {
        u64::try_from(self.engine().dirty()).unwrap_or(u64::MAX)
    }

    fn problems(&self) -> (u64, u64) {
        let (now, ever) = self.source_problems();
        let findings = self.engine().findings().len();
        (
            u64::try_from(now.len() + findings).unwrap_or(u64::MAX),
            ever,
        )
    }
}

fn map_view(figures: MapFigures) -> MapView {
    let spec = mesh_common::MAPS
        .iter()
        .find(|spec| spec.name == figures.map);
    MapView {
        name: figures.map.to_owned(),
        version: spec.map_or(0, |spec| spec.version),
        entries: figures.entries,
        capacity: figures.capacity,
        bytes: figures.bytes,
        pinned: true,
    }
}
