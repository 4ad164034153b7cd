//! /metrics, in the encoding the scraper asks for, and kube-proxy's small answers on the same port.

use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS},
};

use super::http::{Reply, Request, reads};
use crate::telemetry::{exposition, metrics::Metrics};

/// The word where kube-proxy says iptables, ipvs or nftables.
const PROXY_MODE: &str = "ebpf";

/// What the metrics server answers: /metrics, and what kube-proxy has beside it.
pub(super) fn answer(request: &Request, metrics: &Metrics) -> Reply {
    let path = request.path.as_str();
    if !matches!(path, "/metrics" | "/proxyMode" | "/healthz") {
        return Reply::no_such_path(path);
    }
    if !reads(&request.method) {
        return Reply::wrong_method("GET, HEAD");
    }
    match path {
        "/proxyMode" => word(PROXY_MODE),
        "/healthz" => word("ok"),
        _ => scrape(request, metrics),
    }
}

fn word(word: &str) -> Reply {
    let mut reply = Reply::text(StatusCode::OK, word);
    reply
        .headers
        .push((X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
    reply
}

fn scrape(request: &Request, metrics: &Metrics) -> Reply {
    let (kind, text) = if exposition::wants_open_metrics(request.accept.as_deref()) {
        (exposition::OPEN_METRICS, metrics.open_metrics())
    } else {
        (exposition::TEXT, metrics.text())
    };
    match text {
        Ok(text) => Reply {
            status: StatusCode::OK,
            headers: vec![
                (CONTENT_TYPE, HeaderValue::from_static(kind)),
                (VARY, HeaderValue::from_static("Accept")),
            ],
            body: text.into_bytes(),
        },
        Err(error) => Reply::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the metrics could not be written: {error}\n"),
        ),
    }
}
