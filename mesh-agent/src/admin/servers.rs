//! The three servers of a running agent, on one thread of their own: the admin socket, health, metrics.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::SystemTime,
};

use tokio::{runtime::Runtime, sync::watch};

use super::{
    health,
    http::{self, Accept, Routes},
    run_dir::{self, RunDirError},
    scrape,
    service_health::HealthServers,
    socket, v1,
};
use crate::{
    config::ServersConfig,
    telemetry::{Introspect, metrics::Metrics},
};

/// Why the servers cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The run directory is unfit.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The admin socket cannot be made.
    #[error("MESH114 {path:?}: {source}; choose another directory with --run-dir")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else listens there, or the address is not this host's.
    #[error(
        "MESH115 {flag} {address}: {source}; stop what listens there (`ss -ltnp` shows it, often kube-proxy), or \
         choose another address with {flag}"
    )]
    Bind {
        /// The flag.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system gives no thread or no event queue.
    #[error(
        "MESH116 the servers' thread cannot start: {0}; look at the limits on processes and open files"
    )]
    Thread(#[source] io::Error),
}

/// The running servers. Dropping it stops them too, without waiting.
#[derive(Debug)]
pub struct Handle {
    healthz: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    socket: PathBuf,
    checks: HealthServers,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Binds everything, then answers from a thread of its own. The caller holds the run directory's lock.
pub fn serve(
    config: &ServersConfig,
    introspect: Arc<dyn Introspect>,
    metrics: Metrics,
) -> Result<Handle, ServeError> {
    run_dir::make(&config.run_dir)?;
    let healthz = bind("--healthz-bind-address", config.healthz)?;
    let scraped = bind("--metrics-bind-address", config.metrics)?;
    let path = config.socket();
    let admin = socket::bind(&path).map_err(|source| ServeError::Socket {
        path: path.clone(),
        source,
    })?;
    let address = |listener: &Option<TcpListener>| listener.as_ref()?.local_addr().ok();
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(ServeError::Thread)?;
    let mut handle = Handle {
        checks: HealthServers::new(runtime.handle().clone(), Arc::clone(&introspect)),
        healthz: address(&healthz),
        metrics: address(&scraped),
        socket: path,
        stop,
        thread: None,
    };
    let listeners = Listeners {
        admin,
        healthz,
        scraped,
    };
    let thread = thread::Builder::new()
        .name("servers".to_owned())
        .spawn(move || run(&runtime, listeners, introspect, metrics, stopped))
        .map_err(ServeError::Thread)?;
    handle.thread = Some(thread);
    Ok(handle)
}

impl Handle {
    /// Where health is served.
    #[must_use]
    pub const fn healthz(&self) -> Option<SocketAddr> {
        self.healthz
    }

    /// Where metrics are served.
    #[must_use]
    pub const fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Where health checks of Services are answered.
    #[must_use]
    pub fn health_servers(&self) -> HealthServers {
        self.checks.clone()
    }

    /// Takes no more requests, finishes those that are being answered, and removes the socket.
    pub fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the servers' thread panicked");
        }
        if let Err(error) = socket::remove(&self.socket) {
            tracing::warn!(%error, socket = %self.socket.display(), "the socket stays behind");
        }
    }
}

struct Listeners {
    admin: UnixListener,
    healthz: Option<TcpListener>,
    scraped: Option<TcpListener>,
}

fn bind(
    flag: &'static str,
    address: Option<SocketAddr>,
) -> Result<Option<TcpListener>, ServeError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listen = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map(Some).map_err(|source| ServeError::Bind {
        flag,
        address,
        source,
    })
}

fn run(
    runtime: &Runtime,
    listeners: Listeners,
    introspect: Arc<dyn Introspect>,
    metrics: Metrics,
    stop: watch::Receiver<bool>,
) {
    let admin: Routes = {
        let introspect = Arc::clone(&introspect);
        Arc::new(move |request| v1::answer(request, &*introspect))
    };
    let answered = metrics.kube_proxy.clone();
    let healthz: Routes = Arc::new(move |request| {
        health::answer(request, &*introspect, &answered, SystemTime::now())
    });
    let scraped: Routes = Arc::new(move |request| scrape::answer(request, &metrics));
    runtime.block_on(async {
        tokio::join!(
            serve_on(
                tokio::net::UnixListener::from_std(listeners.admin).map(Some),
                admin,
                stop.clone()
            ),
            serve_on(tcp(listeners.healthz), healthz, stop.clone()),
            serve_on(tcp(listeners.scraped), scraped, stop),
        );
    });
}

fn tcp(listener: Option<TcpListener>) -> io::Result<Option<tokio::net::TcpListener>> {
    listener.map(tokio::net::TcpListener::from_std).transpose()
}

async fn serve_on<L: Accept>(
    listener: io::Result<Option<L>>,
    routes: Routes,
    stop: watch::Receiver<bool>,
) {
    match listener {
        Ok(Some(listener)) => http::serve(listener, routes, stop).await,
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "a server could not start"),
    }
}

impl Accept for tokio::net::TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<Option<(Self::Stream, Option<IpAddr>)>> {
        let (stream, peer) = self.accept().await?;
        Ok(Some((stream, Some(peer.ip()))))
    }
}

impl Accept for tokio::net::UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<Option<(Self::Stream, Option<IpAddr>)>> {
        let (stream, _) = self.accept().await?;
        let uid = stream.peer_cred()?.uid();
        if socket::may_ask(uid) {
            return Ok(Some((stream, None)));
        }
        tracing::warn!(
            uid,
            "a process that is not root's was turned away from the admin socket"
        );
        Ok(None)
    }
}
