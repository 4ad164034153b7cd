//! /healthz and /livez as load balancers and kubelets know them from kube-proxy, and /readyz.

use std::{collections::BTreeMap, time::SystemTime};

use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use serde::Serialize;

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

/// The body of kube-proxy 1.36 (pkg/proxy/healthcheck), in the order of its fields. /livez leaves the node's state out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProxyHealth {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    /// By family.
    status: BTreeMap<&'static str, FamilyHealth>,
}

/// One pass programs both families, so both are as healthy.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyHealth {
    last_updated: String,
    healthy: bool,
}

fn proxy(health: &Health, now: SystemTime, with_node: bool) -> Reply {
    let fine = health.healthy && (health.node_eligible || !with_node);
    // A proxy whose answer is 200 is up to date, whenever it last had something to write.
    let updated = if fine { now } else { health.last_updated };
    let body = ProxyHealth {
        last_updated: timestamp::go(updated),
        current_time: timestamp::go(now),
        node_eligible: with_node.then_some(health.node_eligible),
        healthy: health.healthy,
        status: families(health),
    };
    match serde_json::to_vec(&body) {
        Ok(body) => Reply {
            status: status(fine),
            headers: vec![
                (CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            ],
            body,
        },
        Err(error) => Reply::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the health could not be written: {error}\n"),
        ),
    }
}

fn families(health: &Health) -> BTreeMap<&'static str, FamilyHealth> {
    let family = FamilyHealth {
        last_updated: timestamp::go(health.last_updated),
        healthy: health.healthy,
    };
    [("IPv4", family.clone()), ("IPv6", family)].into()
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
