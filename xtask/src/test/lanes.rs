//! The lanes: what each needs, and what it runs.

use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use super::{Outcome, cargo};
use crate::{build, cluster, control_plane, kernels, place, run, setup::Need};

/// Cases of each property test under `--long`.
const LONG_CASES: &str = "20000";

/// A set of tests with the same needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lane {
    /// All logic, the datapath included; needs nothing
    Unit,
    /// Every program through the verifier and the agent's datapath module; needs root
    Kernel,
    /// Nodes and pods as namespaces, the real binary, real traffic; needs root
    Lab,
    /// Old kernels under emulation, and the running one; needs an emulator
    Kernels,
    /// The lab with the real Kubernetes API server and controllers; needs root and Go
    ControlPlane,
    /// The agent's image from its manifests on real kubelets, without kube-proxy; needs root, Go and runc
    Cluster,
}

/// The lab's tests that want a control plane are in files named so.
const CONTROL_PLANE: &str = "control_plane";
/// And those that want nodes too.
const CLUSTER: &str = "cluster";

impl Lane {
    /// In the order in which they run: the quickest to fail first.
    pub(super) const ALL: [Self; 6] = [
        Self::Unit,
        Self::Kernel,
        Self::Kernels,
        Self::Lab,
        Self::ControlPlane,
        Self::Cluster,
    ];

    /// As it is named on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Kernel => "kernel",
            Self::Lab => "lab",
            Self::Kernels => "kernels",
            Self::ControlPlane => "control-plane",
            Self::Cluster => "cluster",
        }
    }

    /// What must be installed.
    pub(super) const fn need(self) -> Need {
        match self {
            Self::Unit | Self::Kernel => Need::Build,
            Self::Lab => Need::Lab,
            Self::Kernels | Self::ControlPlane => Need::Test,
            Self::Cluster => Need::Cluster,
        }
    }

    /// Why it cannot run here, if so.
    pub(super) fn obstacle(self) -> Option<String> {
        match self {
            Self::Unit => None,
            Self::Kernel | Self::Lab => {
                (!run::can_be_root()).then(|| "needs root, and there is no sudo".to_owned())
            }
            Self::Kernels => kernels::obstacle(),
            Self::ControlPlane => Self::Lab.obstacle().or_else(control_plane::obstacle),
            Self::Cluster => Self::Lab.obstacle().or_else(cluster::obstacle),
        }
    }

    /// Runs it.
    pub(super) fn run(self, long: bool) -> Result<Outcome> {
        match self {
            Self::Unit => unit(long),
            Self::Kernel => kernel(long),
            Self::Lab => lab(long),
            Self::Kernels => kernels(),
            Self::ControlPlane => control_plane(long),
            Self::Cluster => cluster(long),
        }
    }
}

/// Two runs, since the agent's crates turn on features that the shared crates must do without in the kernel.
fn unit(long: bool) -> Result<Outcome> {
    let mut shared = cargo::command();
    shared.args([
        "-p",
        "mesh-common",
        "-p",
        "mesh-ebpf",
        "--features",
        "mesh-ebpf/sim",
    ]);
    let mut rest = cargo::command();
    rest.args([
        "-p",
        "mesh-agent",
        "-p",
        "mesh-lab",
        "-p",
        "mesh-smoke",
        "-p",
        "service-model",
        "-p",
        "xtask",
        "--lib",
        "--bins",
    ]);
    for test in rootless_tests()? {
        rest.args(["--test", &test]);
    }
    let shared = cargo::run(lengthen(&mut shared, long))?;
    let rest = cargo::run(lengthen(&mut rest, long))?;
    Ok(Outcome {
        passed: shared.passed + rest.passed,
        failed: shared.failed + rest.failed,
        skipped: None,
    })
}

/// The agent's integration tests that are not of lane `kernel`.
fn rootless_tests() -> Result<Vec<String>> {
    let mut names = test_files("mesh-agent/tests")?;
    names.retain(|name| !name.starts_with("kernel_"));
    Ok(names)
}

/// The names of the test files in a directory of the tree, in order.
fn test_files(directory: &str) -> Result<Vec<String>> {
    let directory = place::root().join(directory);
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".rs") {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn kernel(long: bool) -> Result<Outcome> {
    let mut command = cargo::as_root();
    command.args(["-p", "mesh-agent", "--test", "kernel_*"]);
    cargo::run(lengthen(&mut command, long))
}

fn lab(long: bool) -> Result<Outcome> {
    let tests = lab_tests()?
        .into_iter()
        .filter(|name| !name.starts_with(CONTROL_PLANE) && !name.starts_with(CLUSTER));
    cargo::run(lengthen(&mut lab_command(tests)?, long))
}

fn control_plane(long: bool) -> Result<Outcome> {
    let tests = lab_tests()?
        .into_iter()
        .filter(|name| name.starts_with(CONTROL_PLANE));
    let binary = control_plane::binary()?;
    let mut own = lab_command(tests)?;
    own.env("MESH_CONTROL_PLANE_BIN", &binary);
    // What the source `dir` is tested by, once more on the source `kube`.
    let mut again = ON_BOTH_SOURCES.to_vec();
    if long {
        again.push("scale");
    }
    let mut spine = lab_command(again.into_iter().map(ToOwned::to_owned))?;
    spine.env("MESH_CONTROL_PLANE_BIN", &binary);
    spine.env("MESH_LAB_SOURCE", "kube");
    let own = cargo::run(lengthen(&mut own, long))?;
    let spine = cargo::run(lengthen(&mut spine, long))?;
    Ok(Outcome {
        passed: own.passed + spine.passed,
        failed: own.failed + spine.failed,
        skipped: None,
    })
}

fn cluster(long: bool) -> Result<Outcome> {
    let mut command = cargo::as_root();
    command
        .env("MESH_CONTROL_PLANE_BIN", control_plane::binary()?)
        .env("MESH_CLUSTER_PROGRAMS", cluster::programs()?)
        .env("MESH_CLUSTER_IMAGES", cluster::images()?)
        .args(["-p", "mesh-lab", "--test", CLUSTER])
        // A cluster is a dozen processes: one at a time.
        .args(["--", "--test-threads", "1"]);
    cargo::run(lengthen(&mut command, long))
}

/// The lab's test files that do not depend on where objects come from.
const ON_BOTH_SOURCES: [&str; 15] = [
    "affinity",
    "cleanup",
    "full_maps",
    "health_checks",
    "host_and_hairpin",
    "kinds",
    "no_endpoints",
    "policies",
    "replies",
    "restart",
    "rolling",
    "socket_tcp",
    "socket_udp",
    "socket_v6",
    "upgrade",
];

/// Runs some of the lab's test files.
fn lab_command(tests: impl Iterator<Item = String>) -> Result<Command> {
    let mut command = cargo::as_root();
    command
        .env("MESH_AGENT_BIN", build::agent()?)
        .env("MESH_AGENT_NEXT_BIN", build::next_agent()?)
        .args(["-p", "mesh-lab"]);
    for test in tests {
        command.args(["--test", &test]);
    }
    command.args(["--", "--test-threads"]).arg(threads());
    Ok(command)
}

fn lab_tests() -> Result<Vec<String>> {
    test_files("tests/tests")
}

/// Each test runs several agents and clients: more at a time than there are CPUs only makes them wait.
fn threads() -> String {
    std::env::var("MESH_LAB_THREADS").unwrap_or_else(|_| {
        std::thread::available_parallelism()
            .map_or(1, |cpus| cpus.get().min(4))
            .to_string()
    })
}

fn kernels() -> Result<Outcome> {
    let found = kernels::lane()?;
    for failure in &found.failures {
        println!("FAILED {failure}");
    }
    Ok(Outcome {
        passed: found.passed,
        failed: u32::try_from(found.failures.len()).unwrap_or(u32::MAX),
        skipped: None,
    })
}

fn lengthen(command: &mut Command, long: bool) -> &mut Command {
    if long {
        command
            .env("PROPTEST_CASES", LONG_CASES)
            .env("MESH_LONG", "1");
    }
    command
}
