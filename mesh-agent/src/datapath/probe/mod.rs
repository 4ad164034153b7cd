//! `check`: is this host fit? One result for each code, found out by asking the kernel rather than its version where
//! that can be. Nothing is changed.

mod cgroup;
mod conflicts;
mod destroy;
mod host;
mod interfaces;
mod kernel;
mod nftables;

use super::{
    Options,
    codes::{self, Code},
};
use crate::telemetry::view::{CheckLevel, CheckView};

pub(super) use host::counts_memlock;
pub(super) use kernel::{has_coarse_clock, has_set_retval, has_sock_ops_netns, jiffies};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Something is lost, the rest works.
    Warning,
    /// `run` refuses.
    Error,
}

impl Level {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// What was looked at.
    pub code: Code,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
}

impl CheckResult {
    fn ok(code: Code, what: impl Into<String>) -> Self {
        Self {
            code,
            level: Level::Ok,
            what: what.into(),
        }
    }

    fn warning(code: Code, what: impl Into<String>) -> Self {
        Self {
            code,
            level: Level::Warning,
            what: what.into(),
        }
    }

    fn error(code: Code, what: impl Into<String>) -> Self {
        Self {
            code,
            level: Level::Error,
            what: what.into(),
        }
    }

    /// Whether `run` must not start. `force` overrides what is a matter of opinion: another program on the hooks.
    #[must_use]
    pub fn refuses(&self, force: bool) -> bool {
        self.level == Level::Error && !(force && self.code == codes::OTHERS)
    }

    /// What to do; empty when all is well.
    #[must_use]
    pub fn fix(&self) -> &'static str {
        if self.level == Level::Ok {
            ""
        } else {
            self.code.fix
        }
    }

    /// As it is printed.
    #[must_use]
    pub fn view(&self) -> CheckView {
        CheckView {
            code: self.code.code.to_owned(),
            level: match self.level {
                Level::Ok => CheckLevel::Ok,
                Level::Warning => CheckLevel::Warn,
                Level::Error => CheckLevel::Error,
            },
            object: self.code.name.to_owned(),
            what: self.what.clone(),
            fix: self.fix().to_owned(),
        }
    }
}

impl std::fmt::Display for CheckResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.code.code, self.code.name, self.what)?;
        match self.fix() {
            "" => Ok(()),
            fix => write!(f, "; {fix}"),
        }
    }
}

/// Where cgroup2 is mounted in this process' view.
#[must_use]
pub fn cgroup_mount() -> Option<std::path::PathBuf> {
    cgroup::mount_point()
}

/// Whether kube-proxy's rules are on this host, or may be.
#[must_use]
pub(super) fn has_kube_proxy() -> bool {
    conflicts::kube_proxy().level != Level::Ok
}

/// Every probe, in the order of the codes.
#[must_use]
pub fn all(options: &Options) -> Vec<CheckResult> {
    let privileges = host::privileges();
    let may_try = privileges.level != Level::Error;
    // What the kernel refuses to somebody without privileges says nothing about the kernel.
    let tried = |code, probe: fn() -> CheckResult| {
        if may_try {
            return probe();
        }
        let what = format!("not known without what {} asks for", codes::PRIVILEGES.code);
        CheckResult::warning(code, what)
    };
    let [devices, pods] = interfaces::both();
    vec![
        privileges,
        host::kernel(),
        host::btf(),
        host::bpffs(&options.bpffs),
        host::cgroup(&options.cgroup),
        tried(codes::HOOKS, kernel::hooks),
        tried(codes::NETNS_COOKIE, kernel::netns_cookie),
        tried(codes::SET_RETVAL, kernel::set_retval),
        tried(codes::MAPPED_ARRAYS, kernel::mapped_arrays),
        kernel::grace(),
        conflicts::others(options),
        conflicts::kube_proxy(),
        cgroup::host_cgroup(&options.cgroup),
        host::host_bpffs(&options.bpffs),
        host::memlock(),
        host::jit(),
        host::pins(&options.bpffs),
        interfaces::way(),
        devices,
        pods,
        tried(codes::DESTROY, destroy::destroy),
    ]
}
