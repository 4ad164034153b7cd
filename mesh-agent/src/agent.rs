//! Who owns what and which thread runs what. The source's thread reads files or watches and programs what it brings; the
//! engine's thread programs what falls due without a change, and keeps house; store, mirror and maps are the engine's,
//! under one lock. The main thread waits for the signal to stop; health, metrics and the commands have threads of their
//! own. Stopping leaves the datapath in force.

mod explain;
mod housekeeping;
mod passes;
mod programmer;
mod shared;
mod turns;
mod views;

use std::{ops::ControlFlow, sync::Arc, time::Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    admin::{
        lock::{Lock, LockError},
        servers::{self, ServeError},
    },
    config::{RunConfig, SourceConfig},
    datapath::{Datapath, DatapathError, Options, Sizes},
    source::{
        Source, Stop, decode,
        dir::{DirSource, SourceError},
        kube::{Identity, Known, KubeOptions, KubeSource, NoServer},
        news::{Herald, News},
    },
    telemetry::{
        log::LogHandle,
        metrics::{Metrics, StartupStage},
    },
};
use housekeeping::Housekeeping;
use programmer::Programmer;
use shared::Shared;
use turns::Turns;

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
    NoServer(#[from] NoServer),
    /// See the type.
    #[error(transparent)]
    Server(#[from] ServeError),
    /// The operating system gives no thread or no signals.
    #[error("MESH060 {what}: {source}; look at the limits on processes and open files")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting. Once it runs, nothing that comes in ends it.
pub fn run(
    config: &RunConfig,
    cgroup: std::path::PathBuf,
    log: LogHandle,
) -> Result<(), AgentError> {
    let _lock = Lock::acquire(&config.directories.run_dir, |pid| {
        tracing::info!(
            pid,
            "another agent runs here: waiting for it to go, then taking over"
        );
    })?;
    let (source, stop, mut herald) = open(config)?;
    let sizes = Sizes::from(&config.capacities);
    let began = Instant::now();
    let bpffs = config.directories.bpffs.clone();
    let options = Options {
        bpffs,
        cgroup,
        sizes,
    };
    let opened = Datapath::open(&options)?;
    for finding in &opened.findings {
        tracing::warn!("{finding}");
    }
    let shared = Shared::new(config, &source, &options.cgroup, sizes, opened, log)?;
    let shared = Arc::new(shared);
    let metrics = Metrics::new(Arc::clone(&shared) as Arc<_>);
    metrics.started(StartupStage::Load, began.elapsed());
    // The ports are bound before anything is written: an agent that cannot be asked does not begin.
    let servers = servers::serve(
        &config.servers,
        Arc::clone(&shared) as Arc<_>,
        metrics.clone(),
    )?;
    herald.say(News::starting(&config.node_name));
    let programmer = Programmer::new(Arc::clone(&shared), metrics.clone(), herald);
    let housekeeping = Housekeeping::new(shared, metrics, config.housekeeping);
    let threads = start(source, stop, Turns::new(programmer), housekeeping)?;
    let stopped = until_signal();
    threads.stop();
    servers.stop();
    stopped
}

/// The source that the flags and the environment describe, and who is told what Events are to say. Nothing is read yet.
fn open(config: &RunConfig) -> Result<(Source, Stop, Herald), AgentError> {
    let decode = decode::Options {
        proxy_name: config.service_proxy_name.clone(),
    };
    let (kubeconfig, api_server) = match &config.source {
        SourceConfig::Dir(path) => {
            let (source, stop) = DirSource::open(path, decode)?;
            return Ok((
                Source::Dir(Box::new(source)),
                Stop::Dir(stop),
                Herald::unheard(),
            ));
        }
        SourceConfig::Kube {
            kubeconfig,
            api_server,
        } => (kubeconfig, api_server),
    };
    let variable = |name| std::env::var(name).ok();
    let host = variable("KUBERNETES_SERVICE_HOST");
    let port = variable("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
    let (source, stop, herald) = KubeSource::open(KubeOptions {
        known: Known {
            flag: api_server.clone(),
            kubeconfig: kubeconfig.is_some(),
            variable: variable("MESH_AGENT_API_SERVER"),
            remembered: Vec::new(),
            cluster_ip: host.map(|host| (host, port)),
        },
        identity: match kubeconfig {
            Some(path) => Identity::Kubeconfig(path.clone()),
            None => Identity::ServiceAccount,
        },
        node: config.node_name.clone(),
        run_dir: config.directories.run_dir.clone(),
        decode,
    })?;
    Ok((Source::Kube(Box::new(source)), Stop::Kube(stop), herald))
}

/// The source's and the engine's threads.
struct Threads {
    stop: Stop,
    turns: Arc<Turns>,
    source: std::thread::JoinHandle<()>,
    engine: std::thread::JoinHandle<()>,
}

fn start(
    source: Source,
    stop: Stop,
    turns: Turns,
    housekeeping: Housekeeping,
) -> Result<Threads, AgentError> {
    let failed = |source| AgentError::System {
        what: "no thread",
        source,
    };
    let turns = Arc::new(turns);
    let (brought, due) = (Arc::clone(&turns), Arc::clone(&turns));
    let engine = std::thread::Builder::new().name("engine".to_owned());
    let engine = engine
        .spawn(move || due.run(housekeeping))
        .map_err(failed)?;
    let reader = std::thread::Builder::new().name("source".to_owned());
    let reader = reader.spawn(move || {
        source.run(|batch| {
            brought.take(batch);
            ControlFlow::Continue(())
        });
    });
    Ok(Threads {
        stop,
        turns,
        source: reader.map_err(failed)?,
        engine,
    })
}

impl Threads {
    /// The source ends first, with all that it brought written or waiting for a retry; then the engine.
    fn stop(mut self) {
        self.stop.stop();
        join(self.source);
        self.turns.end();
        join(self.engine);
    }
}

fn join(thread: std::thread::JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread broke down: a defect, please report it");
    }
}

fn until_signal() -> Result<(), AgentError> {
    let failed = |source| AgentError::System {
        what: "no signals",
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; the datapath stays in force until `mesh-agent cleanup`");
        Ok(())
    })
}
