//! The modes in which requests are answered one by one: status 500 for each, or everything as the API server says it
//! except that each watch ends with 410 Gone after a second.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{
    BodyExt, Full,
    channel::{Channel, Sender},
    combinators::BoxBody,
};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1 as client,
    header::{AUTHORIZATION, CONTENT_TYPE},
    server::conn::http1 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::watch, time::Instant};

use super::{fault::Fault, tls::Upstream};

/// How long a watch works before it is too old.
const WATCH: Duration = Duration::from_secs(1);

type Body = BoxBody<Bytes, hyper::Error>;

/// Serves a connection until it ends or the fault changes.
pub(super) async fn answer(
    stream: TcpStream,
    upstream: Arc<Upstream>,
    mut faults: watch::Receiver<Fault>,
) -> Result<()> {
    let fault = *faults.borrow_and_update();
    let serving = async {
        let stream = upstream.acceptor.accept(stream).await?;
        let service = service_fn(|request| respond(request, fault, Arc::clone(&upstream)));
        server::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await?;
        Ok(())
    };
    tokio::select! {
        served = serving => served,
        _ = faults.wait_for(|now| *now != fault) => Ok(()),
    }
}

async fn respond(
    request: Request<Incoming>,
    fault: Fault,
    upstream: Arc<Upstream>,
) -> Result<Response<Body>> {
    if fault == Fault::ServerErrors {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
    }
    let watches = is_watch(request.uri().query().unwrap_or_default());
    let response = forward(request, &upstream).await?;
    if !watches || response.status() != StatusCode::OK {
        return Ok(response.map(BodyExt::boxed));
    }
    let (head, body) = response.into_parts();
    let (sender, channel) = Channel::new(16);
    tokio::spawn(cut_short(body, sender));
    Ok(Response::from_parts(head, channel.boxed()))
}

async fn forward(request: Request<Incoming>, upstream: &Upstream) -> Result<Response<Incoming>> {
    let admin = !request.headers().contains_key(AUTHORIZATION);
    let stream = TokioIo::new(upstream.connect(admin).await?);
    let (mut sender, connection) = client::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// Events as they come for a while, and then the one that says that the watch is too old. Events are lines.
async fn cut_short(mut events: Incoming, mut client: Sender<Bytes, hyper::Error>) {
    let end = Instant::now() + WATCH;
    let mut whole = true;
    loop {
        let wait = if whole { end } else { end + WATCH };
        let Ok(frame) = tokio::time::timeout_at(wait, events.frame()).await else {
            break;
        };
        let Some(Ok(frame)) = frame else {
            return;
        };
        whole = frame.data_ref().is_none_or(|data| data.ends_with(b"\n"));
        if client.send(frame).await.is_err() {
            return;
        }
    }
    let gone = json!({"type": "ERROR", "object": status(StatusCode::GONE, "Expired")});
    // Nobody is there to be told when the client is gone.
    drop(client.send_data(Bytes::from(format!("{gone}\n"))).await);
}

fn refusal(code: StatusCode, reason: &str) -> Result<Response<Body>> {
    let text = status(code, reason).to_string();
    let body = Full::from(text).map_err(|never| match never {});
    Ok(Response::builder()
        .status(code)
        .header(CONTENT_TYPE, "application/json")
        .body(body.boxed())?)
}

fn status(code: StatusCode, reason: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": "the fault proxy says so",
        "reason": reason,
        "code": code.as_u16(),
    })
}

/// Whether a query asks for a watch.
fn is_watch(query: &str) -> bool {
    query
        .split('&')
        .any(|pair| matches!(pair, "watch=true" | "watch=1" | "watch"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_told_from_a_list() {
        assert!(is_watch("allowWatchBookmarks=true&watch=true"));
        assert!(is_watch("watch=1"));
        assert!(!is_watch("allowWatchBookmarks=true&limit=500"));
        assert!(!is_watch("watch=false"));
    }
}
