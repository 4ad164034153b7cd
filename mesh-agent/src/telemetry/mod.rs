//! What the agent shows of itself: the documents of the admin socket and the CLI, metrics, logs.

pub mod dump;
pub mod escape;
pub mod exposition;
mod introspect;
pub mod kube_proxy;
pub mod log;
pub mod metrics;
mod process;
pub mod timestamp;
pub mod view;

pub use introspect::{Health, Introspect};
