//! What an error of the API server, or on the way to it, means to a user: the kind, the cause, what to do. By type, never
//! by text.

use std::error::Error as _;

use kube::{Error, runtime::watcher};

use super::super::Problem;
use crate::model::Kind;

/// What went wrong, as far as there is something to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// 401
    Unknown,
    /// 403
    Forbidden,
    /// 410
    Gone,
    /// 429 and 5xx
    Busy,
    /// The server's certificate is not signed by the authority that is trusted, or not for the name asked for.
    Certificate,
    /// Anything else.
    Other,
}

/// A problem with a kind's watch.
pub(super) fn of_watch(kind: Kind, error: &watcher::Error) -> Problem {
    use watcher::Error::{
        InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed,
    };
    let (cause, text) = match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => told(error),
        WatchError(status) => (of_code(status.code), status.message.clone()),
        NoResourceVersion => (Cause::Other, error.to_string()),
    };
    problem(format!("watch of {kind}"), cause, text, Some(kind))
}

/// A problem with reaching a server at all.
pub(super) fn of_server(server: &str, error: &Error) -> Problem {
    let (cause, text) = told(error);
    problem(format!("API server {server}"), cause, text, None)
}

/// Whether the server does not know streaming lists: then pages are asked for.
pub(super) fn knows_no_streaming_lists(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(Error::Api(status)) => matches!(status.code, 400 | 422),
        watcher::Error::WatchError(status) => matches!(status.code, 400 | 422),
        watcher::Error::WatchStartFailed(_)
        | watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => false,
    }
}

/// Whether the server forgot the version that a watch was to begin at: there has to be a list first.
pub(super) fn forgot_the_version(error: &watcher::Error) -> bool {
    let watcher::Error::WatchStartFailed(Error::Api(status)) = error else {
        return false;
    };
    of_code(status.code) == Cause::Gone
}

/// Whether credentials that are read anew may be better: a kubeconfig may have been renewed.
pub(super) fn refuses_credentials(error: &watcher::Error) -> bool {
    use watcher::Error::{
        InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed,
    };
    let cause = match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => told(error).0,
        WatchError(status) => of_code(status.code),
        NoResourceVersion => Cause::Other,
    };
    matches!(cause, Cause::Unknown | Cause::Certificate)
}

fn problem(object: String, cause: Cause, reason: String, kind: Option<Kind>) -> Problem {
    Problem {
        object: Some(object),
        reason,
        fix: fix(cause, kind),
        ..Problem::default()
    }
}

fn fix(cause: Cause, kind: Option<Kind>) -> String {
    match (cause, kind) {
        (Cause::Unknown, _) => {
            "renew the token or the client certificate, or give another --kubeconfig".to_owned()
        }
        (Cause::Forbidden, Some(kind)) => format!(
            "grant get, list and watch of {}, as the ClusterRole mesh-agent does",
            resource(kind)
        ),
        (Cause::Forbidden, None) => "grant what the ClusterRole mesh-agent grants".to_owned(),
        (Cause::Gone, _) => "nothing: it is listed anew".to_owned(),
        (Cause::Busy, _) => "nothing here: what is in force stays, and it is tried again".to_owned(),
        (Cause::Certificate, _) => {
            "give the cluster's own CA (certificate-authority in the kubeconfig), or the address of the right server"
                .to_owned()
        }
        (Cause::Other, _) => {
            "what is in force stays, and it is tried again; see that the API server can be reached from this node"
                .to_owned()
        }
    }
}

/// As RBAC calls it.
const fn resource(kind: Kind) -> &'static str {
    match kind {
        Kind::EndpointSlice => "endpointslices.discovery.k8s.io",
        Kind::Namespace => "namespaces",
        Kind::Node => "nodes",
        Kind::Pod => "pods",
        Kind::Service => "services",
    }
}

fn told(error: &Error) -> (Cause, String) {
    if let Error::Api(status) = error {
        return (of_code(status.code), status.message.clone());
    }
    let mut text = error.to_string();
    let mut next = error.source();
    let mut cause = Cause::Other;
    while let Some(source) = next {
        text = source.to_string();
        if matches!(
            source.downcast_ref(),
            Some(rustls::Error::InvalidCertificate(_))
        ) {
            cause = Cause::Certificate;
        }
        // An I/O error does not count what it wraps as its source.
        let wrapped = source
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn std::error::Error + 'static)),
            None => source.source(),
        };
    }
    (cause, text)
}

const fn of_code(code: u16) -> Cause {
    match code {
        401 => Cause::Unknown,
        403 => Cause::Forbidden,
        410 => Cause::Gone,
        429 | 500..=599 => Cause::Busy,
        _ => Cause::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> watcher::Error {
        let mut status = kube::core::Status::failure("no", "Because");
        status.code = code;
        watcher::Error::WatchStartFailed(Error::Api(Box::new(status)))
    }

    #[test]
    fn each_cause_has_its_fix() {
        for (code, word) in [
            (401, "renew the token"),
            (403, "list and watch of endpointslices.discovery.k8s.io"),
            (410, "listed anew"),
            (503, "tried again"),
            (404, "can be reached"),
        ] {
            let problem = of_watch(Kind::EndpointSlice, &status(code)).to_string();
            assert!(
                problem.starts_with("watch of EndpointSlice: no; "),
                "{problem}"
            );
            assert!(problem.contains(word), "{problem}");
        }
    }

    #[test]
    fn a_certificate_of_another_is_told_from_its_type() {
        let inner = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let error = Error::Service(Box::new(std::io::Error::other(inner)));
        let problem = of_server("https://192.0.2.1", &error).to_string();
        assert!(problem.contains("the cluster's own CA"), "{problem}");
    }

    #[test]
    fn what_a_new_list_or_new_credentials_mend_is_known() {
        assert!(forgot_the_version(&status(410)) && !forgot_the_version(&status(500)));
        assert!(refuses_credentials(&status(401)) && !refuses_credentials(&status(403)));
    }

    #[test]
    fn servers_without_streaming_lists_are_known() {
        assert!(knows_no_streaming_lists(&status(422)));
        assert!(!knows_no_streaming_lists(&status(403)));
    }
}
