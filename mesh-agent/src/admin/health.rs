//! /healthz and /livez as load balancers and kubelets know them from kube-proxy, and /readyz.

use std::time::SystemTime;

use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};

use super::http::{Reply, Request, reads};
use crate::telemetry::{Health, Introspect, kube_proxy::KubeProxyMetrics, timestamp};

/// What the health server answers.
pub(super) fn answer(
    request: &Request,
    introspect: &dyn Introspect,
    metrics: &KubeProxyMetrics,
    now: SystemTime,
) -> Reply {
    let known = matches!(request.path.as_str(), "/healthz" | "/livez" | "/readyz");
    match (known, reads(&request.method)) {
        (false, _) => Reply::no_such_path(&request.path),
        (true, false) => Reply::wrong_method("GET, HEAD"),
        (true, true) => {
            let health = introspect.health();
            match request.path.as_str() {
                "/healthz" => {
                    let reply = proxy(&health, now, true);
                    metrics.healthz_answered(reply.status.as_u16());
                    reply
                }
                "/livez" => {
                    let reply = proxy(&health, now, false);
                    metrics.livez_answered(reply.status.as_u16());
                    reply
                }
                _ => ready(&health),
            }
        }
    }
}

/// kube-proxy's body, byte for byte: a healthy proxy is always up to date. /livez leaves the node's state out.
fn proxy(health: &Health, now: SystemTime, with_node: bool) -> Reply {
    let updated = if health.healthy {
        now
    } else {
        health.last_updated
    };
    let (updated, now) = (timestamp::go(updated), timestamp::go(now));
    let node = if with_node {
        format!(", \"nodeEligible\": {}", health.node_eligible)
    } else {
        String::new()
    };
    let fine = health.healthy && (health.node_eligible || !with_node);
    Reply {
        status: status(fine),
        headers: vec![
            (CONTENT_TYPE, "application/json"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ],
        body: format!("{{\"lastUpdated\": \"{updated}\",\"currentTime\": \"{now}\"{node}}}")
            .into_bytes(),
    }
}

fn ready(health: &Health) -> Reply {
    match &health.not_ready {
        None => Reply::text(StatusCode::OK, "ok\n"),
        Some(reason) => Reply::text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {reason}\n"),
        ),
    }
}

const fn status(fine: bool) -> StatusCode {
    if fine {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
