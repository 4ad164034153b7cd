//! What the servers ask the rest of the agent. One implementation stands over the engine, one is a test's.

use std::time::SystemTime;

use super::{
    log::{Level, LogError},
    view::{EndpointView, ExplainView, ServiceView, StatusView},
};

/// What the health server tells load balancers and kubelets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Nothing has waited too long to be written; also while the agent starts.
    pub healthy: bool,
    /// When the kernel was last brought to what it should hold.
    pub last_updated: SystemTime,
    /// The node may get traffic: it is not being deleted.
    pub node_eligible: bool,
    /// Why the first full state is not yet programmed and attached; None when it is.
    pub not_ready: Option<String>,
}

/// The agent's inside, as the servers see it. Calls may take a moment; they are made from threads that may wait.
pub trait Introspect: Send + Sync {
    /// For /healthz, /livez and /readyz.
    fn health(&self) -> Health;

    /// One screen of health.
    fn status(&self) -> StatusView;

    /// Every Service, by namespace and name.
    fn services(&self) -> Vec<ServiceView>;

    /// One Service; None when there is none of that name.
    fn service(&self, namespace: &str, name: &str) -> Option<ServiceView>;

    /// The local pods, by the index of their interfaces.
    fn endpoints(&self) -> Vec<EndpointView>;

    /// How a Service came to what the kernel holds for it.
    fn explain(&self, namespace: &str, name: &str) -> Option<ExplainView>;

    /// What is logged from now on.
    fn set_log_level(&self, level: &Level) -> Result<(), LogError>;
}
