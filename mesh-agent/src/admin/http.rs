//! HTTP/1 as all three servers speak it: small requests, whole answers, bounds on everything a client can stretch.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
    time::timeout,
};

use crate::telemetry::view::ErrorView;

/// Whoever asks has its few lines at hand.
const HEADER_TIME: Duration = Duration::from_secs(1);
const BODY_TIME: Duration = Duration::from_secs(5);
const CONNECTION_TIME: Duration = Duration::from_secs(60);
const HEADER_BYTES: usize = 16 * 1024;
const BODY_BYTES: usize = 4 * 1024;
const CONNECTIONS: usize = 256;
/// Of one address, so that nobody can keep the others out alone.
const CONNECTIONS_OF_A_PEER: usize = 32;

/// A request, as far as routes look at it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) accept: Option<String>,
    pub(super) body: Bytes,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// Text for people.
    pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self {
            status,
            headers: vec![(
                CONTENT_TYPE,
                HeaderValue::from_static("text/plain; charset=utf-8"),
            )],
            body: body.into().into_bytes(),
        }
    }

    /// A document.
    pub(super) fn json(status: StatusCode, document: &impl Serialize) -> Self {
        match serde_json::to_vec(document) {
            Ok(body) => Self {
                status,
                headers: vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
                body,
            },
            Err(error) => Self::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    /// An error, as the CLI reads it.
    pub(super) fn error(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::json(status, &ErrorView { message })
    }

    /// 404.
    pub(super) fn no_such_path(path: &str) -> Self {
        Self::text(StatusCode::NOT_FOUND, format!("no such path: {path}\n"))
    }

    /// 405.
    pub(super) fn wrong_method(allowed: &'static str) -> Self {
        let mut reply = Self::text(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("use {allowed} here\n"),
        );
        reply
            .headers
            .push((ALLOW, HeaderValue::from_static(allowed)));
        reply
    }
}

/// Whether a request only reads; hyper leaves the body of an answer to HEAD out.
pub(super) fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// What a server answers. Called where it may wait.
pub(super) type Routes = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// Where connections come from: TCP, or the admin socket.
pub(super) trait Accept {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and the address that it is from, where it is from one; None for one that was turned away.
    async fn accept(&self) -> io::Result<Option<(Self::Stream, Option<IpAddr>)>>;
}

/// How many connections each address has.
#[derive(Clone, Default)]
struct Peers(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// An address has as many connections as it may.
struct Crowded;

/// One of an address's connections, until it is dropped.
struct Place {
    peers: Peers,
    peer: IpAddr,
}

impl Peers {
    /// A place for a connection from an address; an error for an address that has as many as it may.
    fn admit(&self, peer: Option<IpAddr>) -> Result<Option<Place>, Crowded> {
        let Some(peer) = peer else {
            return Ok(None);
        };
        let place = self.place(peer).ok_or(Crowded);
        if place.is_err() {
            tracing::debug!(%peer, "an address with too many connections was turned away");
        }
        place.map(Some)
    }

    /// None for an address that has as many as it may.
    fn place(&self, peer: IpAddr) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer).or_default();
        if *count >= CONNECTIONS_OF_A_PEER {
            return None;
        }
        *count += 1;
        let peers = self.clone();
        Some(Place { peers, peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

/// Serves until `stop` says so, then lets requests that are being answered finish.
pub(super) async fn serve<L: Accept>(listener: L, routes: Routes, mut stop: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let peers = Peers::default();
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        match accepted {
            Ok(Some((stream, peer))) => {
                let Ok(place) = peers.admit(peer) else {
                    continue;
                };
                let (routes, stop) = (Arc::clone(&routes), stop.clone());
                tokio::spawn(async move {
                    connection(stream, routes, stop).await;
                    drop((place, permit));
                });
            }
            Ok(None) => {}
            Err(error) => {
                // Out of descriptors, mostly: trying again at once would spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    // Another may listen there from now on.
    drop(listener);
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    drop(timeout(Duration::from_secs(2), permits.acquire_many(all)).await);
}

/// Waits for the word to stop. That nobody is left to say it means stop, too.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    routes: Routes,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| answer(request, Arc::clone(&routes)));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = timeout(CONNECTION_TIME, async {
        tokio::select! {
            ended = serving.as_mut() => ended,
            () = stopped(&mut stop) => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        }
    });
    match ended.await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to a server ended badly"),
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    routes: Routes,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = match timeout(BODY_TIME, Limited::new(body, BODY_BYTES).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Ok(response(too_large())),
        Err(_) => {
            return Ok(response(Reply::text(
                StatusCode::REQUEST_TIMEOUT,
                "too slow\n",
            )));
        }
    };
    let accept = head
        .headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok());
    let request = Request {
        accept: accept.map(ToOwned::to_owned),
        method: head.method,
        path: head.uri.path().to_owned(),
        body,
    };
    let reply = tokio::task::spawn_blocking(move || routes(&request)).await;
    Ok(response(reply.unwrap_or_else(|error| {
        Reply::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the agent could not answer: {error}\n"),
        )
    })))
}

fn too_large() -> Reply {
    Reply::text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n")
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = reply.status;
    for (name, value) in reply.headers {
        response.headers_mut().insert(name, value);
    }
    response
}
