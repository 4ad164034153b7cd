//! What is answered to whom.

use std::{sync::Arc, time::SystemTime};

use hyper::{Method, StatusCode};
use serde::Serialize;

use super::http::{Answer, Asked, Route};
use crate::{
    model::ObjectName,
    telemetry::{Document, Health, Metrics, ServiceList, ServiceView, StatusView},
};

/// What the commands may ask of the running agent.
pub trait Introspect: Send + Sync + 'static {
    /// One screen of health.
    fn status(&self) -> StatusView;
    /// Every Service.
    fn services(&self) -> Vec<ServiceView>;
    /// One Service.
    fn service(&self, name: &ObjectName) -> Option<ServiceView>;
    /// Changes what is logged; the error says what is wrong with the words.
    ///
    /// # Errors
    /// The directives cannot be parsed.
    fn set_log_level(&self, directives: &str) -> Result<(), String>;
}

/// 10256: /healthz, /livez, /readyz.
pub struct HealthRoutes(pub Arc<Health>);

impl Route for HealthRoutes {
    fn answer(&self, asked: &Asked) -> Answer {
        if !matches!(asked.path.as_str(), "/healthz" | "/livez" | "/readyz") {
            return Answer::not_found(&asked.path);
        }
        if !matches!(asked.method, Method::GET | Method::HEAD) {
            return Answer::wrong_method(&asked.method);
        }
        match asked.path.as_str() {
            "/readyz" if self.0.is_ready() => Answer::text(StatusCode::OK, "ok"),
            "/readyz" => {
                let reason = format!("not ready: waiting for {}", self.0.waiting_for());
                Answer::text(StatusCode::SERVICE_UNAVAILABLE, &reason)
            }
            path => Answer::json(StatusCode::OK, proxy_health(&self.0, path == "/healthz")),
        }
    }
}

/// kube-proxy's body: lastUpdated is now while it is healthy, and nodeEligible is for load balancers alone.
fn proxy_health(health: &Health, with_node: bool) -> String {
    let now = rfc3339(SystemTime::now());
    let updated = if health.is_ready() {
        now.clone()
    } else {
        rfc3339(health.updated())
    };
    let node = if with_node {
        ",\"nodeEligible\":true"
    } else {
        ""
    };
    format!("{{\"lastUpdated\":\"{updated}\",\"currentTime\":\"{now}\"{node}}}")
}

/// As Kubernetes writes times.
fn rfc3339(time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    k8s_openapi::jiff::Timestamp::from_second(seconds)
        .map(|it| it.to_string())
        .unwrap_or_default()
}

/// 10249: /metrics.
pub struct MetricsRoutes(pub Arc<Metrics>);

impl Route for MetricsRoutes {
    fn answer(&self, asked: &Asked) -> Answer {
        const OPEN_METRICS: &str = "application/openmetrics-text";
        if asked.path != "/metrics" {
            return Answer::not_found(&asked.path);
        }
        if !matches!(asked.method, Method::GET | Method::HEAD) {
            return Answer::wrong_method(&asked.method);
        }
        let (text, content_type) = if asked.accept.contains(OPEN_METRICS) {
            (
                self.0.open_metrics(),
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )
        } else {
            (
                self.0.prometheus(),
                "text/plain; version=0.0.4; charset=utf-8",
            )
        };
        match text {
            Ok(body) => Answer {
                status: StatusCode::OK,
                content_type,
                body,
            },
            Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

/// agent.sock: what the commands ask.
pub struct AdminRoutes(pub Arc<dyn Introspect>);

impl Route for AdminRoutes {
    fn answer(&self, asked: &Asked) -> Answer {
        match (&asked.method, asked.path.as_str()) {
            (&Method::PUT, "/v1/log-level") => self.set_log_level(&asked.body),
            (&Method::GET, "/v1/status") => document("Status", &self.0.status()),
            (&Method::GET, "/v1/services") => document(
                "ServiceList",
                &ServiceList {
                    items: self.0.services(),
                },
            ),
            (&Method::GET, path) => match path
                .strip_prefix("/v1/services/")
                .and_then(|name| name.split_once('/'))
            {
                Some((namespace, name)) => self.service(namespace, name),
                None => Answer::not_found(path),
            },
            (method, _) => Answer::wrong_method(method),
        }
    }
}

impl AdminRoutes {
    fn service(&self, namespace: &str, name: &str) -> Answer {
        match self.0.service(&ObjectName::new(namespace, name)) {
            Some(view) => document("Service", &view),
            None => Answer::text(
                StatusCode::NOT_FOUND,
                &format!("there is no Service {namespace}/{name}"),
            ),
        }
    }

    fn set_log_level(&self, body: &[u8]) -> Answer {
        let directives = String::from_utf8_lossy(body);
        match self.0.set_log_level(directives.trim()) {
            Ok(()) => Answer::text(StatusCode::OK, "ok"),
            Err(reason) => Answer::text(StatusCode::BAD_REQUEST, &reason),
        }
    }
}

fn document<T: Serialize>(kind: &str, body: &T) -> Answer {
    match serde_json::to_string(&Document::new(kind, body)) {
        Ok(text) => Answer::json(StatusCode::OK, text),
        Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn get(route: &impl Route, path: &str) -> Answer {
        let path = path.to_owned();
        route.answer(&Asked {
            method: Method::GET,
            path,
            accept: String::new(),
            body: Bytes::new(),
        })
    }

    #[test]
    fn readiness_says_what_it_waits_for() {
        let routes = HealthRoutes(Arc::default());
        let answer = get(&routes, "/readyz");
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.body.contains("first full list"), "{}", answer.body);
        routes.0.set_ready();
        assert_eq!(get(&routes, "/readyz").status, StatusCode::OK);
    }

    #[test]
    fn health_bodies_are_kube_proxys() {
        let routes = HealthRoutes(Arc::default());
        let healthz: serde_json::Value =
            serde_json::from_str(&get(&routes, "/healthz").body).unwrap();
        let livez: serde_json::Value = serde_json::from_str(&get(&routes, "/livez").body).unwrap();
        assert_eq!(healthz["nodeEligible"], true);
        assert!(livez.get("nodeEligible").is_none());
        assert!(livez["lastUpdated"].as_str().unwrap().ends_with('Z'));
        assert_eq!(get(&routes, "/nothing").status, StatusCode::NOT_FOUND);
    }
}
