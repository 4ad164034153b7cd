//! The admin socket's API, version 1: the documents of the CLI, and the log level.

use hyper::{Method, StatusCode};
use serde::Serialize;

use super::http::{Reply, Request, reads};
use crate::telemetry::{
    Introspect,
    view::{Document, Items, LogLevelView},
};

/// What the admin server answers.
pub(super) fn answer(request: &Request, introspect: &dyn Introspect) -> Reply {
    let path: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    if path == ["v1", "log-level"] {
        return match request.method {
            Method::PUT => log_level(&request.body, introspect),
            _ => Reply::wrong_method("PUT"),
        };
    }
    let known = matches!(
        path.as_slice(),
        ["v1", "status" | "services" | "endpoints"]
            | ["v1", "services", _, _]
            | ["v1", "services", _, _, "explain"]
    );
    match (known, reads(&request.method)) {
        (false, _) => Reply::error(
            StatusCode::NOT_FOUND,
            format!("no such path: {}", request.path),
        ),
        (true, false) => Reply::wrong_method("GET, HEAD"),
        (true, true) => show(&path, introspect),
    }
}

fn show(path: &[&str], introspect: &dyn Introspect) -> Reply {
    match path {
        ["v1", "status"] => document("Status", introspect.status()),
        ["v1", "services"] => {
            let items = introspect.services();
            document("ServiceList", Items { items })
        }
        ["v1", "endpoints"] => {
            let items = introspect.endpoints();
            document("EndpointList", Items { items })
        }
        ["v1", "services", namespace, name] => {
            found("Service", path, introspect.service(namespace, name))
        }
        ["v1", "services", namespace, name, ..] => found(
            "ServiceExplanation",
            path,
            introspect.explain(namespace, name),
        ),
        _ => Reply::error(StatusCode::NOT_FOUND, "no such path"),
    }
}

fn document<T: Serialize>(kind: &str, content: T) -> Reply {
    Reply::json(StatusCode::OK, &Document::new(kind, content))
}

fn found<T: Serialize>(kind: &str, path: &[&str], content: Option<T>) -> Reply {
    let name = path.get(2..4).unwrap_or_default().join("/");
    content.map_or_else(
        || {
            Reply::error(
                StatusCode::NOT_FOUND,
                format!(
                    "Service {name} is not known to the agent; `mesh-agent service list` shows those that are, \
                     `mesh-agent status` which objects could not be read"
                ),
            )
        },
        |content| document(kind, content),
    )
}

fn log_level(body: &[u8], introspect: &dyn Introspect) -> Reply {
    let view: LogLevelView = match serde_json::from_slice(body) {
        Ok(view) => view,
        Err(error) => {
            return Reply::error(
                StatusCode::BAD_REQUEST,
                format!("the body is not {{\"level\": \"...\"}}: {error}"),
            );
        }
    };
    let set = view
        .level
        .parse()
        .and_then(|level| introspect.set_log_level(&level));
    match set {
        Ok(()) => Reply::json(StatusCode::OK, &Document::new("LogLevel", view)),
        Err(error) => Reply::error(StatusCode::BAD_REQUEST, error.to_string()),
    }
}
