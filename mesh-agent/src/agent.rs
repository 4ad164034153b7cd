//! Who owns what and which thread runs what. Three threads: the source reads files; the engine, which owns store, mirror
//! and maps, turns their changes into writes; the main thread serves health, metrics and the commands and waits for the
//! signal to stop. Stopping leaves the datapath in force.

mod housekeeping;
mod programmer;
mod shared;
mod views;

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, mpsc},
};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    admin::{self, AdminRoutes, HealthRoutes, Listener, MetricsRoutes, ServerError},
    datapath::{self, Datapath, DatapathError},
    lock::{Lock, LockError},
    source::{
        Batch, decode,
        dir::{DirSource, SourceError, Stop},
    },
    telemetry::{Health, LogLevel, Metrics},
};
use shared::Shared;

/// What to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of manifests.
    pub source: PathBuf,
    /// Which objects are ours.
    pub decode: decode::Options,
    /// This node's name.
    pub node: String,
    /// --run-dir
    pub run_dir: PathBuf,
    /// Pins, cgroup and sizes.
    pub datapath: datapath::Options,
    /// --healthz-bind-address
    pub healthz: std::net::SocketAddr,
    /// --metrics-bind-address
    pub metrics: std::net::SocketAddr,
}

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// See the type.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// See the type.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// See the type.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// See the type.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The operating system gives no thread or no signals.
    #[error("MESH060: {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Batches that wait for the engine. The source reads no further than that ahead.
const WAITING_BATCHES: usize = 4;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting. Once it runs, nothing that comes in ends it.
pub fn run(config: &Config, level: LogLevel) -> Result<(), AgentError> {
    let _lock = Lock::acquire(&config.run_dir, |who| {
        tracing::info!("{who} runs here: waiting for it to go, then taking over");
    })?;
    let (source, stop) = DirSource::open(&config.source, config.decode.clone())?;
    let opened = Datapath::open(&config.datapath)?;
    let health = Arc::new(Health::default());
    let shared = Arc::new(Shared::new(config, opened, Arc::clone(&health), level));
    let metrics = Arc::new(Metrics::new(Arc::clone(&shared) as Arc<_>));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|source| AgentError::System {
        what: "no runtime",
        source,
    })?;
    runtime.block_on(async {
        // The ports are bound before anything is written: an agent that cannot be asked does not begin.
        let servers = bind(config, &shared, &health, &metrics).await?;
        let threads = start(source, stop, &shared, &metrics)?;
        for (listener, route) in servers {
            tokio::spawn(admin::serve(listener, route));
        }
        let stopped = until_signal().await;
        threads.stop();
        stopped
    })
}

type Server = (Listener, Arc<dyn admin::Route>);

async fn bind(
    config: &Config,
    shared: &Arc<Shared>,
    health: &Arc<Health>,
    metrics: &Arc<Metrics>,
) -> Result<[Server; 3], ServerError> {
    let admin = Arc::new(AdminRoutes(Arc::clone(shared) as Arc<_>));
    Ok([
        (
            Listener::tcp(config.healthz, "--healthz-bind-address").await?,
            Arc::new(HealthRoutes(Arc::clone(health))),
        ),
        (
            Listener::tcp(config.metrics, "--metrics-bind-address").await?,
            Arc::new(MetricsRoutes(Arc::clone(metrics))),
        ),
        (
            admin::bind_socket(&config.run_dir.join("agent.sock"))?,
            admin,
        ),
    ])
}

/// The source's and the engine's threads.
struct Threads {
    stop: Stop,
    source: std::thread::JoinHandle<()>,
    engine: std::thread::JoinHandle<()>,
}

fn start(
    source: DirSource,
    stop: Stop,
    shared: &Arc<Shared>,
    metrics: &Arc<Metrics>,
) -> Result<Threads, AgentError> {
    let failed = |source| AgentError::System {
        what: "no thread",
        source,
    };
    let (sender, receiver) = mpsc::sync_channel::<Batch>(WAITING_BATCHES);
    let (shared, metrics) = (Arc::clone(shared), Arc::clone(metrics));
    let engine = std::thread::Builder::new().name("engine".to_owned());
    let engine = engine
        .spawn(move || programmer::run(&shared, &metrics, &receiver))
        .map_err(failed)?;
    let reader = std::thread::Builder::new().name("source".to_owned());
    let reader = reader.spawn(move || {
        source.run(|batch| match sender.send(batch) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
    });
    Ok(Threads {
        stop,
        source: reader.map_err(failed)?,
        engine,
    })
}

impl Threads {
    /// The source ends first; the engine writes what it was given and ends when no more can come.
    fn stop(mut self) {
        self.stop.stop();
        for thread in [self.source, self.engine] {
            if thread.join().is_err() {
                tracing::error!("a thread broke down: a defect, please report it");
            }
        }
    }
}

async fn until_signal() -> Result<(), AgentError> {
    let failed = |source| AgentError::System {
        what: "no signals",
        source,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; the datapath stays in force until `mesh-agent cleanup`");
    Ok(())
}
