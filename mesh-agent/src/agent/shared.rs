//! What the threads share: the engine under a lock, and what servers read without it.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use mesh_common::Counter;

use super::{explain, views};
use crate::{
    apply::Clock,
    config::{RunConfig, SourceConfig},
    datapath::{self, Datapath, DatapathError, Opened, Operation, Options, Reader},
    engine::{Engine, SplitMix},
    interfaces::Interfaces,
    model::{Kind, ObjectName},
    plan::{Applied, Time},
    snat_ports::Ports,
    source::{
        Problem, Source,
        kube::{LinkState, Links},
    },
    store::{Store, StoreOptions},
    telemetry::{
        Health, Introspect,
        log::{Level, LogError, LogHandle},
        metrics::{Operations, Readings},
        view::{EndpointView, ExplainView, MapView, ServiceView, StatusView},
    },
};

/// The operations that the engine does.
const OPERATIONS: [(&str, Operation); 9] = [
    ("frontends", Operation::Update),
    ("frontends", Operation::Delete),
    ("source_ranges", Operation::Update),
    ("source_ranges", Operation::Delete),
    ("services", Operation::Store),
    ("sets", Operation::Store),
    ("slots", Operation::Store),
    ("backends", Operation::Update),
    ("backends", Operation::Store),
];

/// For so long may writes fail before the agent counts as unhealthy: as long as kube-proxy's, twice its sync period.
const BEHIND: Duration = Duration::from_secs(60);

/// The engine over the kernel's maps.
pub(super) type KernelEngine = Engine<Datapath, Monotonic, SplitMix>;

/// The kernel's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Monotonic;

impl Clock for Monotonic {
    fn now(&self) -> Time {
        Time::from_nanos(datapath::monotonic_nanoseconds())
    }
}

/// See the module.
pub(super) struct Shared {
    engine: Mutex<KernelEngine>,
    reader: Reader,
    bpffs: PathBuf,
    problems: Mutex<Vec<Problem>>,
    interfaces: Mutex<Interfaces>,
    ready: AtomicBool,
    progress: Mutex<Progress>,
    log: LogHandle,
    node: String,
    source: String,
    /// Of an API server's watches.
    links: Option<Links>,
    cgroup: String,
    run_dir: PathBuf,
    snat_ports: Ports,
    node_eligible: AtomicBool,
    /// Sockets whose backend was gone.
    destroyed: AtomicU64,
    began: Instant,
}

/// How far the agent is.
#[derive(Debug)]
struct Progress {
    /// When the kernel last held what it should.
    updated: SystemTime,
    /// Why the programs could not be put in force.
    obstacle: Option<String>,
    /// Since when what is in force is not what should be, if it is so.
    behind: Option<Instant>,
}

impl Shared {
    pub(super) fn new(
        config: &RunConfig,
        source: &Source,
        options: &Options,
        opened: Opened,
        log: LogHandle,
    ) -> Result<Self, DatapathError> {
        let (now, sizes) = (Monotonic.now(), options.sizes);
        let applied = match &opened.dump {
            Some(dump) => Applied::restore(dump, sizes.capacities(), now),
            None => Applied::new(sizes.capacities()),
        };
        let seed = datapath::monotonic_nanoseconds() ^ u64::from(std::process::id());
        Ok(Self {
            reader: opened.datapath.reader()?,
            bpffs: options.bpffs.clone(),
            engine: Mutex::new(Engine::new(
                Store::new(store_options(config)),
                applied,
                opened.datapath,
                Monotonic,
                SplitMix(seed),
            )),
            problems: Mutex::default(),
            interfaces: Mutex::default(),
            ready: AtomicBool::new(false),
            progress: Mutex::new(Progress {
                updated: SystemTime::now(),
                obstacle: None,
                behind: None,
            }),
            log,
            node: config.node_name.clone(),
            source: source.title(),
            links: source.links(),
            cgroup: options.cgroup.display().to_string(),
            run_dir: config.directories.run_dir.clone(),
            snat_ports: options.ports,
            node_eligible: AtomicBool::new(true),
            destroyed: AtomicU64::new(0),
            began: Instant::now(),
        })
    }

    /// A reader for a thread of its own.
    pub(super) fn another_reader(&self) -> Result<Reader, DatapathError> {
        self.engine().writer().reader()
    }

    /// The first full state is programmed and attached.
    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// The programs could not be put in force.
    pub(super) fn set_obstacle(&self, obstacle: String) {
        self.progress().obstacle = Some(obstacle);
    }

    /// The kernel holds what it should, now.
    pub(super) fn set_updated(&self) {
        let mut progress = self.progress();
        progress.updated = SystemTime::now();
        progress.behind = None;
    }

    /// A write failed, and will be tried again.
    pub(super) fn set_behind(&self) {
        self.progress().behind.get_or_insert_with(Instant::now);
    }

    /// Whether load balancers should send traffic to this node.
    pub(super) fn set_node_eligible(&self, eligible: bool) {
        self.node_eligible.store(eligible, Ordering::Relaxed);
    }

    /// So many sockets more were destroyed because their backend was gone.
    pub(super) fn add_destroyed(&self, count: u64) {
        self.destroyed.fetch_add(count, Ordering::Relaxed);
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine. A thread that broke down while it held the lock left a consistent mirror: each write is recorded
    /// after it was made.
    pub(super) fn engine(&self) -> MutexGuard<'_, KernelEngine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node's name.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// Writes down what `trace` cannot read from the programs that are in force now.
    pub(super) fn note_ports(&self) {
        if let Err(error) = self.snat_ports.note(&self.run_dir) {
            tracing::warn!(
                %error,
                run_dir = %self.run_dir.display(),
                "the ports that stand for clients cannot be written down: `trace` may name others"
            );
        }
    }

    /// The maps, to be read without waiting for the engine.
    pub(super) const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Takes the source's problems in; gives back those that are new.
    pub(super) fn set_problems(&self, problems: Vec<Problem>) -> Vec<Problem> {
        let mut held = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let before: BTreeSet<&Problem> = held.iter().collect();
        let new = problems
            .iter()
            .filter(|problem| !before.contains(problem))
            .cloned()
            .collect();
        *held = problems;
        new
    }

    /// The node's interfaces, as they were seen last.
    pub(super) fn set_interfaces(&self, interfaces: Interfaces) {
        *self.interfaces() = interfaces;
    }

    fn interfaces(&self) -> MutexGuard<'_, Interfaces> {
        self.interfaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn problems(&self) -> Vec<Problem> {
        self.problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn links(&self) -> Vec<LinkState> {
        let links = self.links.as_ref();
        links.map_or_else(Vec::new, |links| links.states(Instant::now()))
    }

    fn not_ready(&self) -> Option<String> {
        if self.ready.load(Ordering::Acquire) {
            return None;
        }
        let obstacle = self.progress().obstacle.clone();
        Some(obstacle.unwrap_or_else(|| "the first full state is not yet programmed".to_owned()))
    }
}

fn store_options(config: &RunConfig) -> StoreOptions {
    StoreOptions {
        node: config.node_name.clone(),
        node_port_addresses: config.node_port_addresses.clone(),
        node_ports: Some(config.node_ports),
        slices_only: match config.source {
            SourceConfig::Kube { .. } => true,
            SourceConfig::Dir(_) => false,
        },
    }
}

impl Introspect for Shared {
    fn health(&self) -> Health {
        let progress = self.progress();
        let (last_updated, behind) = (progress.updated, progress.behind);
        drop(progress);
        Health {
            healthy: behind.is_none_or(|since| since.elapsed() < BEHIND),
            last_updated,
            node_eligible: self.node_eligible.load(Ordering::Relaxed),
            not_ready: self.not_ready(),
        }
    }

    fn status(&self) -> StatusView {
        let (programs, maps, problems) = (
            datapath::view::programs(&self.bpffs),
            self.maps(),
            self.problems(),
        );
        let engine = self.engine();
        let mut status = views::status(&engine, &problems);
        status.waiting_for = engine
            .store()
            .unsynced()
            .map(|kind: Kind| kind.name().to_owned())
            .collect();
        if !engine.store().knows_addresses() {
            status.waiting_for.push("node addresses".to_owned());
        }
        drop(engine);
        status.node_name.clone_from(&self.node);
        status.source.clone_from(&self.source);
        status.watches = self.links().iter().map(views::watch).collect();
        status.cgroup.clone_from(&self.cgroup);
        status.uptime_seconds = self.began.elapsed().as_secs();
        status.sockets_destroyed = self.destroyed.load(Ordering::Relaxed);
        status.reason = self.not_ready();
        status.ready = status.reason.is_none();
        status.maps = maps;
        status.programs = programs;
        status
    }

    fn services(&self) -> Vec<ServiceView> {
        let engine = self.engine();
        engine
            .service_views()
            .map(|view| views::service(&view))
            .collect()
    }

    fn service(&self, namespace: &str, name: &str) -> Option<ServiceView> {
        let engine = self.engine();
        let view = engine.service_view(&ObjectName::new(namespace, name))?;
        Some(views::service(&view))
    }

    fn endpoints(&self) -> Vec<EndpointView> {
        views::endpoints(&self.interfaces())
    }

    fn explain(&self, namespace: &str, name: &str) -> Option<ExplainView> {
        let engine = self.engine();
        let view = engine.service_view(&ObjectName::new(namespace, name))?;
        Some(explain::explain(engine.store(), &view))
    }

    fn set_log_level(&self, level: &Level) -> Result<(), LogError> {
        self.log.set(level)?;
        tracing::info!(%level, "log level changed");
        Ok(())
    }
}

impl Readings for Shared {
    fn stale(&self) -> Vec<(&'static str, u64)> {
        let states = self.links().into_iter();
        states
            .map(|state| (state.kind.name(), state.stale.as_secs()))
            .collect()
    }

    fn maps(&self) -> Vec<MapView> {
        let usage = self.engine().usage();
        let mut maps = datapath::view::maps(&self.reader, &self.bpffs);
        for map in &mut maps {
            if let Some(usage) = usage.iter().find(|usage| usage.map == map.name) {
                map.entries = u64::try_from(usage.entries).ok();
            }
        }
        maps
    }

    fn operations(&self) -> Vec<Operations> {
        let mut engine = self.engine();
        let counted = engine.writer().maps.operations().clone();
        drop(engine);
        let row = |((map, operation, worked), count): (&(&'static str, Operation, bool), &u64)| {
            Operations {
                map,
                op: operation.name(),
                outcome: if *worked { "ok" } else { "error" },
                count: *count,
            }
        };
        // What was never done is shown too: a series that comes and goes cannot be counted by.
        let never = OPERATIONS
            .iter()
            .map(|(map, operation)| (*map, *operation, true));
        let never: Vec<_> = never
            .filter(|key| !counted.contains_key(key))
            .map(|key| (key, 0))
            .collect();
        counted
            .iter()
            .map(row)
            .chain(never.iter().map(|(key, count)| row((key, count))))
            .collect()
    }

    fn counters(&self) -> Vec<(Counter, u64)> {
        self.reader.counters().unwrap_or_else(|error| {
            tracing::warn!("{error}");
            Vec::new()
        })
    }
}
