//! Who owns what and which thread runs what. The source's thread reads files or watches and programs what it brings; that
//! of `interfaces` follows the node's and has programs attached; the engine's programs what falls due without a change,
//! and keeps house; store, mirror and maps are the engine's, under one lock. The collector takes flows that are over out
//! of their table, the terminator destroys sockets whose backend is gone. The main thread waits for the signal to stop; health, metrics and the commands have threads of their
//! own. Stopping leaves the datapath in force.

mod attach;
mod collector;
mod explain;
mod health_checks;
mod housekeeping;
mod passes;
mod programmer;
mod shared;
mod take_over;
mod terminator;
mod turns;
mod views;

use std::{ops::ControlFlow, sync::Arc, thread::JoinHandle, time::Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    admin::{
        lock::{Lock, LockError},
        servers::{self, ServeError},
    },
    config::{RunConfig, SourceConfig, TerminateConnections},
    conntrack_timeouts::Keeper,
    datapath::{Datapath, DatapathError, Options, Sizes},
    gone::Destroyer,
    interfaces::{self, Watch, WatchError},
    snat_ports::Ports,
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
use attach::Attachments;
use collector::Collector;
use health_checks::HealthChecks;
use housekeeping::Housekeeping;
use programmer::Programmer;
use shared::Shared;
use take_over::TakeOver;
use terminator::Terminator;
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
    /// See the type.
    #[error("MESH061 {0}")]
    Interfaces(#[from] WatchError),
    /// --device names what is not there.
    #[error(
        "MESH062 --device {0}: there is no such interface; give names that `ip link` shows, or leave the flag out for \
         those that carry the node's addresses"
    )]
    NoDevice(String),
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
    let followed = interfaces::Options {
        devices: config.devices.clone(),
    };
    let seen = interfaces::look_once(&followed)?;
    if let Some(name) = seen.unknown_devices.into_iter().next() {
        return Err(AgentError::NoDevice(name));
    }
    let (source, stop, mut herald) = open(config)?;
    let sizes = Sizes::from(&config.capacities);
    let began = Instant::now();
    let bpffs = config.directories.bpffs.clone();
    let options = Options {
        bpffs,
        cgroup,
        sizes,
        ports: Ports::new(config.snat_ports, config.node_ports),
    };
    let opened = Datapath::open(&options)?;
    for finding in &opened.findings {
        tracing::warn!("{finding}");
    }
    let shared = Shared::new(config, &source, &options, opened, log)?;
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
    let (watch, unwatch) = Watch::open(followed, config.netns_directories.clone())?;
    let attacher = shared
        .engine()
        .writer()
        .attacher()
        .map_err(no_descriptors)?;
    let attachments = Arc::new(Attachments::new(Arc::clone(&shared), attacher));
    let collector = Collector::start(shared.another_reader()?, Arc::clone(&attachments));
    let collector = collector.map_err(no_thread)?;
    let destroyer = Destroyer::new(config.netns_directories.clone());
    let (terminator, looks) =
        Terminator::start(Arc::clone(&shared), metrics.clone(), destroyer).map_err(no_thread)?;
    let programmer = Programmer::new(
        Arc::clone(&shared),
        metrics.clone(),
        herald,
        Arc::clone(&attachments),
        match config.terminate_connections {
            TerminateConnections::Gone => Some(looks),
            TerminateConnections::Never => None,
        },
        TakeOver::new(config.take_over),
        HealthChecks::new(servers.health_servers(), &config.node_name),
    );
    let conntrack = Keeper::new(config.conntrack, &config.directories.run_dir);
    let housekeeping = Housekeeping::new(shared, metrics, config.housekeeping, conntrack);
    let turns = Turns::new(programmer);
    let threads = start(
        (source, stop),
        (watch, unwatch, attachments),
        turns,
        housekeeping,
    )?;
    let stopped = until_signal();
    threads.stop();
    terminator.join();
    collector.stop();
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

/// The threads of what comes in, and the engine's.
struct Threads {
    stop: Stop,
    turns: Arc<Turns>,
    unwatch: interfaces::Stop,
    source: JoinHandle<()>,
    interfaces: JoinHandle<()>,
    engine: JoinHandle<()>,
}

fn no_thread(source: std::io::Error) -> AgentError {
    AgentError::System {
        what: "no thread",
        source,
    }
}

fn no_descriptors(source: std::io::Error) -> AgentError {
    AgentError::System {
        what: "no descriptors for programs",
        source,
    }
}

fn start(
    (source, stop): (Source, Stop),
    (watch, unwatch, attachments): (Watch, interfaces::Stop, Arc<Attachments>),
    turns: Turns,
    housekeeping: Housekeeping,
) -> Result<Threads, AgentError> {
    let turns = Arc::new(turns);
    let (objects, updates) = (Arc::clone(&turns), Arc::clone(&turns));
    let due = Arc::clone(&turns);
    let engine = spawn("engine", move || due.run(housekeeping))?;
    let interfaces = spawn("interfaces", move || {
        watch.run(|update| {
            attachments.follow(&update);
            updates.follow(update);
            ControlFlow::Continue(())
        });
    })?;
    let source = spawn("source", move || {
        source.run(|batch| {
            objects.take(batch);
            ControlFlow::Continue(())
        });
    })?;
    Ok(Threads {
        stop,
        turns,
        unwatch,
        source,
        interfaces,
        engine,
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, AgentError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map_err(no_thread)
}

impl Threads {
    /// What comes in ends first, with all that it brought written or waiting for a retry; then the engine.
    fn stop(mut self) {
        self.stop.stop();
        self.unwatch.stop();
        join(self.source);
        join(self.interfaces);
        self.turns.end();
        join(self.engine);
    }
}

fn join(thread: JoinHandle<()>) {
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
