//! Where objects come from: manifests or watches in, changes of the model's objects out. Kubernetes' own types do not
//! leave here.

pub mod decode;
pub mod dir;
pub mod kube;
mod moment;
pub mod news;
mod problem;

use std::ops::ControlFlow;

pub use moment::Moment;
pub use problem::Problem;

use crate::model::Change;

/// What a source tells at once.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What changed, in order.
    pub changes: Vec<Change>,
    /// Every problem there is now; None when they are as they were.
    pub problems: Option<Vec<Problem>>,
    /// When the event that this comes from was seen.
    pub received: Moment,
}

/// A source of either kind.
#[derive(Debug)]
pub enum Source {
    /// A directory of manifests.
    Dir(Box<dir::DirSource>),
    /// An API server.
    Kube(Box<kube::KubeSource>),
}

/// Ends a source from another thread.
#[derive(Debug)]
pub enum Stop {
    /// See the type.
    Dir(dir::Stop),
    /// See the type.
    Kube(kube::Stop),
}

impl Source {
    /// Runs until stopped or until the sink has enough.
    pub fn run(self, sink: impl FnMut(Batch) -> ControlFlow<()>) {
        match self {
            Self::Dir(source) => source.run(sink),
            Self::Kube(source) => source.run(sink),
        }
    }

    /// How the watches of an API server are; None of a directory.
    #[must_use]
    pub fn links(&self) -> Option<kube::Links> {
        match self {
            Self::Dir(_) => None,
            Self::Kube(source) => Some(source.links()),
        }
    }

    /// As people name it.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::Dir(source) => format!("dir:{}", source.path().display()),
            Self::Kube(source) => format!("kube, API server {}", source.servers()),
        }
    }
}

impl Stop {
    /// The source's `run` returns soon.
    pub fn stop(&mut self) {
        match self {
            Self::Dir(stop) => stop.stop(),
            Self::Kube(stop) => stop.stop(),
        }
    }
}
