//! When a change took effect: two pods accept connections, and whichever is waited for notes when a client's new
//! connection first lands on it. Beside them, a bare watch of the same EndpointSlice.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, Config,
    api::WatchParams,
    config::{KubeConfigOptions, Kubeconfig},
    core::WatchEvent,
};
use mesh_lab::{Place, Pod};

use super::{
    objects::{self, PROBE, WITNESS},
    world::v4,
};

/// Which pod is waited for, and who wants to know.
#[derive(Default)]
struct Awaited(Mutex<Option<(usize, Sender<Instant>)>>);

impl Awaited {
    fn seen(&self, pod: usize) {
        let now = Instant::now();
        let mut awaited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if awaited.as_ref().is_some_and(|(it, _)| *it == pod)
            && let Some((_, teller)) = awaited.take()
        {
            // Whoever has stopped waiting need not know.
            teller.send(now).ok();
        }
    }
}

/// The two pods.
pub(super) struct Witnesses {
    awaited: Arc<Awaited>,
    pub(super) addresses: [IpAddr; 2],
}

impl Witnesses {
    /// Accepts in both pods until this process ends.
    pub(super) fn start(pods: &[Pod; 2]) -> Result<Self> {
        let awaited = Arc::new(Awaited::default());
        for (number, pod) in pods.iter().enumerate() {
            let place = pod.place();
            let listener = place.within(|| Ok(TcpListener::bind(("0.0.0.0", WITNESS))?))?;
            let awaited = Arc::clone(&awaited);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    awaited.seen(number);
                    greet(stream, number);
                }
            });
        }
        Ok(Self {
            awaited,
            addresses: [v4(&pods[0])?, v4(&pods[1])?],
        })
    }

    /// Tells when a connection next lands on a pod.
    pub(super) fn await_pod(&self, pod: usize) -> Receiver<Instant> {
        let (teller, told) = channel();
        let mut awaited = self
            .awaited
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *awaited = Some((pod, teller));
        told
    }
}

/// Says who it is as the traffic tool's servers do, and lets the client close.
fn greet(mut stream: TcpStream, number: usize) {
    let patience = Some(Duration::from_millis(100));
    let name = ["a\n", "b\n"][number];
    let closed = stream
        .set_read_timeout(patience)
        .and_then(|()| stream.write_all(name.as_bytes()))
        .and_then(|()| stream.read(&mut [0; 16]));
    // A reset is how the client closes.
    drop(closed);
}

/// A bare watch of the probed slice: tells the first address of each event when it has been read and decoded.
pub(super) struct Watch(Receiver<(Option<IpAddr>, Instant)>);

impl Watch {
    /// Watches from a place's network namespace, for good.
    pub(super) fn start(kubeconfig: &Path, place: Place) -> Self {
        let (teller, told) = channel();
        let kubeconfig: PathBuf = kubeconfig.to_owned();
        std::thread::spawn(move || {
            let outcome = place.within(|| follow(&kubeconfig, &teller));
            // At the end nobody listens any more, and the API server goes.
            if let Err(error) = outcome
                && teller.send((None, Instant::now())).is_ok()
            {
                crate::run::say(&format!("the bare watch ended: {error:#}"));
            }
        });
        Self(told)
    }

    /// When the event came that names this address; events before it are passed over.
    pub(super) fn saw(&self, address: IpAddr, patience: Duration) -> Result<Instant> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let told = self.0.recv_timeout(left);
            let (seen, at) = told.context("the bare watch did not see the change")?;
            if seen == Some(address) {
                return Ok(at);
            }
        }
    }

    /// Forgets what has come so far.
    pub(super) fn forget(&self) {
        while self.0.try_recv().is_ok() {}
    }
}

fn follow(kubeconfig: &Path, teller: &Sender<(Option<IpAddr>, Instant)>) -> Result<()> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(read, &options).await?;
        let api: Api<EndpointSlice> = Api::namespaced(kube::Client::try_from(config)?, "default");
        let name = objects::name(PROBE);
        let parameters = WatchParams::default()
            .fields(&format!("metadata.name={name}"))
            .timeout(280);
        let mut version = "0".to_owned();
        // The server ends each watch after its time.
        loop {
            let events = api.watch(&parameters, &version).await?;
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.try_next().await? {
                let (WatchEvent::Added(slice) | WatchEvent::Modified(slice)) = event else {
                    continue;
                };
                version = slice.metadata.resource_version.clone().unwrap_or(version);
                if teller
                    .send((first_address(&slice), Instant::now()))
                    .is_err()
                {
                    return Ok(());
                }
            }
        }
    })
}

fn first_address(slice: &EndpointSlice) -> Option<IpAddr> {
    slice
        .endpoints
        .as_ref()?
        .first()?
        .addresses
        .first()?
        .parse()
        .ok()
}
