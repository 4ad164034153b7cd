//! Stands in front of the API server and does what networks and servers do on a bad day. Which day it is can be
//! changed at any time, for open connections too.

mod answer;
mod fault;
mod relay;
mod tls;

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
};

pub use fault::Fault;

use crate::{control_plane::ControlPlane, lab::netns};
use fault::Treatment;
use tls::Upstream;

/// A proxy in front of an API server, at the same address with a port of its own. Dropping it ends it.
///
/// While it hands bytes on, clients are who they are to the API server. In the modes that answer by themselves TLS ends
/// here: what is forwarded then is known by its bearer token, or is the administrator's if it has none.
#[derive(Debug)]
pub struct FaultProxy {
    fault: Option<watch::Sender<Fault>>,
    connections: Arc<AtomicU64>,
    address: SocketAddr,
    kubeconfig: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Starts one, which lets everything pass.
    pub fn start(control_plane: &ControlPlane) -> Result<Self> {
        let server: SocketAddr = authority(control_plane.server()).parse()?;
        let upstream = Arc::new(Upstream::new(control_plane, server)?);
        let (fault, faults) = watch::channel(Fault::None);
        let connections = Arc::new(AtomicU64::new(0));
        let netns = control_plane.place().map(|place| place.netns().to_owned());
        let (tell, told) = mpsc::channel();
        let counter = Arc::clone(&connections);
        let thread = std::thread::spawn(move || {
            let outcome = run(
                netns.as_deref(),
                server.ip(),
                upstream,
                faults,
                &counter,
                &tell,
            );
            if let Err(error) = outcome {
                eprintln!("fault proxy: {error:#}");
            }
        });
        let address = told.recv().context("the fault proxy did not start")?;
        Ok(Self {
            kubeconfig: kubeconfig(control_plane, address)?,
            fault: Some(fault),
            connections,
            address,
            thread: Some(thread),
        })
    }

    /// From now on this happens, to open connections too.
    pub fn set(&self, fault: Fault) {
        if let Some(sender) = &self.fault {
            sender.send_replace(fault);
        }
    }

    /// How many connections it has accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The URL to call instead of the API server's.
    #[must_use]
    pub fn server(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The administrator's kubeconfig with this server in it.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // Its loop ends with the sender.
        drop(self.fault.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn authority(url: &str) -> &str {
    url.trim_start_matches("https://")
}

fn kubeconfig(control_plane: &ControlPlane, address: SocketAddr) -> Result<PathBuf> {
    let mut config: Value = serde_json::from_slice(&fs::read(control_plane.kubeconfig())?)?;
    config["clusters"][0]["cluster"]["server"] = format!("https://{address}").into();
    let path = control_plane
        .directory()
        .join(format!("fault-proxy-{}.kubeconfig", address.port()));
    fs::write(&path, config.to_string())?;
    Ok(path)
}

fn run(
    netns: Option<&Path>,
    address: IpAddr,
    upstream: Arc<Upstream>,
    faults: watch::Receiver<Fault>,
    connections: &AtomicU64,
    tell: &mpsc::Sender<SocketAddr>,
) -> Result<()> {
    if let Some(netns) = netns {
        netns::enter(netns)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Bound as long as the proxy lives, so that the port is not given away while nobody listens.
        let reserved = socket(SocketAddr::new(address, 0))?;
        let address = reserved.local_addr()?;
        let mut listener = Some(listen(address)?);
        tell.send(address).context("nobody waits for the address")?;
        accept(address, &mut listener, &upstream, faults, connections).await
    })
}

/// Accepts until the sender of faults is gone.
async fn accept(
    address: SocketAddr,
    listener: &mut Option<TcpListener>,
    upstream: &Arc<Upstream>,
    mut faults: watch::Receiver<Fault>,
    connections: &AtomicU64,
) -> Result<()> {
    loop {
        let fault = *faults.borrow_and_update();
        if fault == Fault::Refuse {
            *listener = None;
        } else if listener.is_none() {
            *listener = Some(listen(address)?);
        }
        tokio::select! {
            changed = faults.changed() => if changed.is_err() { return Ok(()) },
            accepted = next(listener.as_ref()) => {
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(accepted?, Arc::clone(upstream), faults.clone()));
            }
        }
    }
}

async fn next(listener: Option<&TcpListener>) -> Result<TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

/// A connection that breaks is what the proxy is for: nobody is told.
async fn serve(client: TcpStream, upstream: Arc<Upstream>, faults: watch::Receiver<Fault>) {
    let fault = *faults.borrow();
    match fault.treatment() {
        Treatment::Cut => {}
        Treatment::Answer => drop(answer::answer(client, upstream, faults).await),
        Treatment::Free | Treatment::Trickle | Treatment::Held => {
            drop(relay::relay(client, upstream.server, faults).await);
        }
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    Ok(socket(address)?.listen(128)?)
}

fn socket(address: SocketAddr) -> Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseport(true)?;
    socket
        .bind(address)
        .with_context(|| format!("cannot bind {address}"))?;
    Ok(socket)
}
