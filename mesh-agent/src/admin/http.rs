//! HTTP/1.1 over TCP and unix sockets: one task a connection, small requests, bounded in size and time.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener};

/// A request's head must be here by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const MOST_HEAD_BYTES: usize = 16 * 1024;
const MOST_BODY_BYTES: usize = 64 * 1024;

/// Why a server cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Somebody else listens there, or the address is not this host's.
    #[error(
        "MESH030: cannot listen on {address} ({flag}): {source}. Free the port or give another address by {flag}"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The flag it came from.
        flag: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The admin socket cannot be made.
    #[error(
        "MESH031: cannot make the socket {path}: {source}. Is the directory given by --run-dir writable?"
    )]
    Socket {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// GET, PUT, ...
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The Accept header, empty if there is none.
    pub accept: String,
    /// The body.
    pub body: Bytes,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Content-Type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A line of text.
    #[must_use]
    pub fn text(status: StatusCode, body: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{body}\n"),
        }
    }

    /// JSON.
    #[must_use]
    pub fn json(status: StatusCode, body: String) -> Self {
        Self {
            status,
            content_type: "application/json",
            body,
        }
    }

    /// For a path that is none.
    #[must_use]
    pub fn not_found(path: &str) -> Self {
        Self::text(StatusCode::NOT_FOUND, &format!("there is no {path} here"))
    }

    /// For a path that does not take this method.
    #[must_use]
    pub fn wrong_method(method: &Method) -> Self {
        Self::text(
            StatusCode::METHOD_NOT_ALLOWED,
            &format!("{method} is not for this path"),
        )
    }
}

/// What a server answers.
pub trait Route: Send + Sync + 'static {
    /// Must not block for long: health is asked by probes with timeouts.
    fn answer(&self, asked: &Asked) -> Answer;
}

/// Where a server listens.
#[derive(Debug)]
pub enum Listener {
    /// Health and metrics.
    Tcp(TcpListener),
    /// The commands.
    Unix(UnixListener),
}

impl Listener {
    /// Listens on a TCP address.
    ///
    /// # Errors
    /// The port is taken or the address is not this host's.
    pub async fn tcp(address: SocketAddr, flag: &'static str) -> Result<Self, ServerError> {
        let listener = TcpListener::bind(address).await;
        listener.map(Self::Tcp).map_err(|source| ServerError::Bind {
            address,
            flag,
            source,
        })
    }
}

/// Serves until the task is dropped.
pub async fn serve(listener: Listener, route: Arc<dyn Route>) {
    loop {
        let accepted = match &listener {
            Listener::Tcp(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| connection(TokioIo::new(stream), &route)),
            Listener::Unix(listener) => listener.accept().await.and_then(|(stream, _)| {
                super::socket::ensure_root(&stream)?;
                connection(TokioIo::new(stream), &route);
                Ok(())
            }),
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "a connection could not be accepted");
            // Out of descriptors, most likely: do not spin.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn connection<S>(stream: TokioIo<S>, route: &Arc<dyn Route>)
where
    TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let route = Arc::clone(route);
    let service = service_fn(move |request| {
        let route = Arc::clone(&route);
        async move { Ok::<_, std::convert::Infallible>(respond(&*route, request).await) }
    });
    tokio::spawn(async move {
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MOST_HEAD_BYTES)
            .serve_connection(stream, service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a connection ended early");
        }
    });
}

async fn respond(route: &dyn Route, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let answer = match Limited::new(body, MOST_BODY_BYTES).collect().await {
        Ok(body) => {
            let accept = head
                .headers
                .get(ACCEPT)
                .and_then(|accept| accept.to_str().ok())
                .unwrap_or_default();
            let path = head.uri.path().to_owned();
            route.answer(&Asked {
                method: head.method,
                path,
                accept: accept.to_owned(),
                body: body.to_bytes(),
            })
        }
        Err(error) => Answer::text(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(answer.content_type),
    );
    headers.insert(
        "x-content-type-options",
        hyper::header::HeaderValue::from_static("nosniff"),
    );
    response
}
