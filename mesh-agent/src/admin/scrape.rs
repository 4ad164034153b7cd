//! /metrics, in the encoding the scraper asks for.

use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, VARY},
};

use super::http::{Reply, Request, reads};
use crate::telemetry::{exposition, metrics::Metrics};

/// What the metrics server answers.
pub(super) fn answer(request: &Request, metrics: &Metrics) -> Reply {
    if request.path != "/metrics" {
        return Reply::no_such_path(&request.path);
    }
    if !reads(&request.method) {
        return Reply::wrong_method("GET, HEAD");
    }
    let (kind, text) = if exposition::wants_open_metrics(request.accept.as_deref()) {
        (exposition::OPEN_METRICS, metrics.open_metrics())
    } else {
        (exposition::TEXT, metrics.text())
    };
    match text {
        Ok(text) => Reply {
            status: StatusCode::OK,
            headers: vec![(CONTENT_TYPE, kind), (VARY, "Accept")],
            body: text.into_bytes(),
        },
        Err(error) => Reply::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the metrics could not be written: {error}\n"),
        ),
    }
}
