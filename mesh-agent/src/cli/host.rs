//! What the commands need of this host beside the admin socket: the daemon itself, the pinned maps, the probes.

use crate::{
    config::{Directories, RunConfig},
    telemetry::{
        dump::Live,
        log::LogHandle,
        view::{CheckView, RemovedView},
    },
};

/// Something that did not work, in the words users see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", sentence(self))]
pub struct Fault {
    /// A stable code; empty when the cause has none.
    pub code: String,
    /// What did not work and why, with the object's name.
    pub what: String,
    /// What to do.
    pub fix: String,
}

/// Code, cause and fix, as far as there are such.
fn sentence(fault: &Fault) -> String {
    let mut text = fault.what.clone();
    if !fault.code.is_empty() {
        text.insert_str(0, &format!("{} ", fault.code));
    }
    if !fault.fix.is_empty() {
        text.push_str(&format!("; {}", fault.fix));
    }
    text
}

impl Fault {
    /// Of an error whose text says all of it.
    pub fn of(error: impl std::error::Error) -> Self {
        Self {
            code: String::new(),
            what: error.to_string(),
            fix: String::new(),
        }
    }
}

/// What `check` looks at.
#[derive(Clone, Debug)]
pub struct CheckTarget<'a> {
    /// Where pins, socket and lock are or would be.
    pub directories: &'a Directories,
    /// What `run` would attach to.
    pub cgroup: Option<&'a std::path::Path>,
}

/// This host. One implementation is the real one, one is a test's.
pub trait Host {
    /// The daemon, until it is told to stop. Logging is set up.
    fn run(&self, config: RunConfig, log: LogHandle) -> Result<(), Fault>;

    /// Every probe of the host, in the order in which they are shown.
    fn check(&self, target: &CheckTarget<'_>) -> Vec<CheckView>;

    /// What the pinned maps hold; flows, of which there may be a million, only where they are asked for.
    fn live(&self, directories: &Directories, with_flows: bool) -> Result<Live, Fault>;

    /// Takes what kube-proxy left off the host, or says what would go.
    fn clean_kube_proxy(&self, dry_run: bool, force: bool) -> Result<Vec<RemovedView>, Fault>;

    /// Takes everything of ours off the host, or says what would go.
    fn cleanup(&self, directories: &Directories, dry_run: bool) -> Result<Vec<RemovedView>, Fault>;
}
