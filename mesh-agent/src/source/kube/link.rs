//! How the watches are: when the API server last said something about each kind, and what is wrong. Written by the
//! watches and by a layer around every response; read by status and metrics.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Request, Response, body::Body};
use tower::{Layer, Service};

use crate::model::Kind;

/// An API server sends each watch a bookmark a minute; without a word for longer something is wrong.
const QUIET: Duration = Duration::from_secs(90);

/// The kinds that are watched.
pub(super) const WATCHED: [Kind; 4] = [Kind::EndpointSlice, Kind::Node, Kind::Pod, Kind::Service];

/// One kind's watch.
#[derive(Clone, Debug)]
struct Link {
    /// When the last byte came; the start at first.
    heard: Instant,
    error: Option<String>,
}

/// How one kind's watch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// The kind.
    pub kind: Kind,
    /// For how long nothing new could be learnt; zero while the watch works.
    pub stale: Duration,
    /// What is wrong.
    pub error: Option<String>,
}

/// All of them. Clones are the same.
#[derive(Clone, Debug)]
pub struct Links(Arc<Mutex<BTreeMap<Kind, Link>>>);

impl Links {
    pub(super) fn new(now: Instant) -> Self {
        let link = Link {
            heard: now,
            error: Some("not connected yet".to_owned()),
        };
        let links = WATCHED.map(|kind| (kind, link.clone()));
        Self(Arc::new(Mutex::new(links.into())))
    }

    /// How they are.
    #[must_use]
    pub fn states(&self, now: Instant) -> Vec<LinkState> {
        let state = |(kind, link): (&Kind, &Link)| {
            let silence = now.saturating_duration_since(link.heard);
            let stale = link.error.is_some() || silence > QUIET;
            LinkState {
                kind: *kind,
                stale: if stale { silence } else { Duration::ZERO },
                error: link.error.clone(),
            }
        };
        self.lock().iter().map(state).collect()
    }

    pub(super) fn failed(&self, kind: Kind, error: &str) {
        if let Some(link) = self.lock().get_mut(&kind) {
            link.error = Some(error.to_owned());
        }
    }

    /// For how long none of the watches has had a word.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        let heard = self.lock().values().map(|link| link.heard).max();
        heard.map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard))
    }

    /// Whether no watch works.
    pub(super) fn are_all_broken(&self) -> bool {
        self.lock().values().all(|link| link.error.is_some())
    }

    fn heard(&self, kind: Kind) {
        if let Some(link) = self.lock().get_mut(&kind) {
            link.heard = Instant::now();
            link.error = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Kind, Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kind that a request is about.
fn kind_of(path: &str) -> Option<Kind> {
    match path.rsplit('/').next()? {
        "services" => Some(Kind::Service),
        "endpointslices" => Some(Kind::EndpointSlice),
        "nodes" => Some(Kind::Node),
        "pods" => Some(Kind::Pod),
        _ => None,
    }
}

/// Notes every response and every piece of its body.
#[derive(Clone, Debug)]
pub(super) struct Listen(pub(super) Links);

impl<S> Layer<S> for Listen {
    type Service = Listening<S>;

    fn layer(&self, inner: S) -> Listening<S> {
        Listening {
            inner,
            links: self.0.clone(),
        }
    }
}

/// See `Listen`.
#[derive(Clone, Debug)]
pub(super) struct Listening<S> {
    inner: S,
    links: Links,
}

type Heard = http_body_util::combinators::UnsyncBoxBody<Bytes, tower::BoxError>;
type Answer =
    std::pin::Pin<Box<dyn Future<Output = Result<Response<Heard>, tower::BoxError>> + Send>>;

impl<S, In, Out> Service<Request<In>> for Listening<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    S::Error: Into<tower::BoxError>,
    S::Future: Send + 'static,
    Out: Body<Data = Bytes> + Send + 'static,
    Out::Error: Into<tower::BoxError>,
{
    type Response = Response<Heard>;
    type Error = tower::BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), tower::BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<In>) -> Answer {
        let kind = kind_of(request.uri().path());
        let (links, answer) = (self.links.clone(), self.inner.call(request));
        Box::pin(async move {
            let response = answer.await.map_err(Into::into)?;
            let kind = kind.filter(|_| response.status().is_success());
            if let Some(kind) = kind {
                links.heard(kind);
            }
            Ok(response.map(|body| {
                let noted = body.map_frame(move |frame| {
                    if let Some(kind) = kind {
                        links.heard(kind);
                    }
                    frame
                });
                noted.map_err(Into::into).boxed_unsync()
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_stale_while_it_fails_or_says_nothing() {
        let began = Instant::now();
        let links = Links::new(began);
        let stale = |kind, seconds| {
            let states = links.states(began + Duration::from_secs(seconds));
            let state = states.into_iter().find(|state| state.kind == kind);
            state.map(|state| state.stale.as_secs()).unwrap_or_default()
        };
        assert!(links.are_all_broken());
        assert_eq!(stale(Kind::Service, 7), 7);
        links.heard(Kind::Service);
        assert!(!links.are_all_broken());
        assert_eq!((stale(Kind::Service, 60), stale(Kind::Node, 60)), (0, 60));
        assert!(stale(Kind::Service, 200) >= 199);
        links.failed(Kind::Service, "refused");
        assert!(stale(Kind::Service, 5) >= 4);
    }

    #[test]
    fn requests_are_known_by_their_paths() {
        assert_eq!(kind_of("/api/v1/services"), Some(Kind::Service));
        assert_eq!(
            kind_of("/apis/discovery.k8s.io/v1/endpointslices"),
            Some(Kind::EndpointSlice)
        );
        assert_eq!(kind_of("/version"), None);
    }
}
