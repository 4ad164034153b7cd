//! Who owns what and which thread runs what. Threads: the source reads files or watches; `interfaces` follows the node's; the engine, which owns store, mirror
//! and maps, turns their changes into writes; the collector takes flows that are over out of their table; the main thread serves health, metrics and the commands and waits for the
//! signal to stop. Stopping leaves the datapath in force.

mod collector;
mod explain;
mod housekeeping;
mod passes;
mod programmer;
mod shared;
mod views;

use std::{
    ops::ControlFlow,
    sync::{Arc, mpsc},
    time::Instant,
};

use mesh_ebpf::SnatPorts;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    admin::{
        lock::{Lock, LockError},
        servers::{self, ServeError},
    },
    config::{RunConfig, SourceConfig},
    datapath::{self, Datapath, DatapathError, Sizes},
    interfaces::{self, Options, Update, Watch, WatchError},
    source::{
        Batch, Source, Stop, decode,
        dir::{DirSource, SourceError},
        kube::{Identity, Known, KubeOptions, KubeSource, NoServer},
        news::{Herald, News},
    },
    telemetry::{
        log::LogHandle,
        metrics::{Metrics, StartupStage},
    },
};
use collector::Collector;
use programmer::Programmer;
use shared::Shared;

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

/// Batches that wait for the engine. The source reads no further than that ahead.
const WAITING_BATCHES: usize = 4;

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
    let interfaces = Options {
        devices: config.devices.clone(),
    };
    let seen = interfaces::look_once(&interfaces)?;
    if let Some(name) = seen.unknown_devices.into_iter().next() {
        return Err(AgentError::NoDevice(name));
    }
    let (source, stop, mut herald) = open(config)?;
    let sizes = Sizes::from(&config.capacities);
    let began = Instant::now();
    let bpffs = config.directories.bpffs.clone();
    let options = datapath::Options {
        bpffs,
        cgroup,
        sizes,
        ports: ports(config),
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
    let collector = shared
        .another_reader()
        .map(Collector::start)?
        .map_err(no_thread)?;
    let programmer = Programmer::new(Arc::clone(&shared), metrics, herald, config.housekeeping);
    let watch = Watch::open(interfaces)?;
    let threads = start(source, stop, watch, programmer)?;
    let stopped = until_signal();
    threads.stop();
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

/// What stands for clients: every port of --snat-ports that is no node port.
fn ports(config: &RunConfig) -> SnatPorts {
    SnatPorts {
        first: config.snat_ports.first,
        last: config.snat_ports.last,
        hole_first: config.node_ports.first,
        hole_last: config.node_ports.last,
    }
}

/// What the engine's thread is given.
enum Work {
    /// Objects changed.
    Objects(Batch),
    /// Interfaces came, went or changed their addresses.
    Interfaces(Update),
}

/// The threads that give the engine work, and the engine's.
struct Threads {
    stop: Stop,
    stop_watch: interfaces::Stop,
    source: std::thread::JoinHandle<()>,
    watch: std::thread::JoinHandle<()>,
    engine: std::thread::JoinHandle<()>,
}

fn no_thread(source: std::io::Error) -> AgentError {
    AgentError::System {
        what: "no thread",
        source,
    }
}

fn start(
    source: Source,
    stop: Stop,
    (watch, stop_watch): (Watch, interfaces::Stop),
    programmer: Programmer,
) -> Result<Threads, AgentError> {
    let (sender, receiver) = mpsc::sync_channel::<Work>(WAITING_BATCHES);
    let engine = std::thread::Builder::new().name("engine".to_owned());
    let engine = engine
        .spawn(move || programmer.run(&receiver))
        .map_err(no_thread)?;
    let go_on = |sent: Result<(), mpsc::SendError<Work>>| match sent {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    let follower = std::thread::Builder::new().name("interfaces".to_owned());
    let updates = sender.clone();
    let follower = follower
        .spawn(move || watch.run(|update| go_on(updates.send(Work::Interfaces(update)))))
        .map_err(no_thread)?;
    let reader = std::thread::Builder::new().name("source".to_owned());
    let reader = reader
        .spawn(move || source.run(|batch| go_on(sender.send(Work::Objects(batch)))))
        .map_err(no_thread)?;
    Ok(Threads {
        stop,
        stop_watch,
        source: reader,
        watch: follower,
        engine,
    })
}

impl Threads {
    /// Who gives work ends first; the engine writes what it was given and ends when no more can come.
    fn stop(mut self) {
        self.stop.stop();
        self.stop_watch.stop();
        for thread in [self.source, self.watch, self.engine] {
            if thread.join().is_err() {
                tracing::error!("a thread broke down: a defect, please report it");
            }
        }
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
