//! A node of a cluster: containerd and a kubelet below a first process in namespaces of their own, on a node of the lab.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{cgroups, config, programs};
use crate::{
    control_plane::ControlPlane,
    harness::eventually,
    lab::{Address, Node},
    place::traffic_binary,
    process::Process,
};

/// Dropping it ends everything on it.
#[derive(Debug)]
pub struct ClusterNode {
    node: Node,
    process: Process,
    /// The node's first process, as the machine counts.
    first: u32,
}

impl ClusterNode {
    /// Starts the node's services and does not wait for them.
    pub(super) fn start(node: &Node, control_plane: &ControlPlane) -> Result<Self> {
        write_files(node, control_plane)?;
        let log = node.run_dir().join("node.log");
        let process = Process::spawn(command(node)?, log)?;
        let first = eventually("the node has a first process", || {
            first_child(process.pid())
        })?;
        // Version 2 wants no process beside the directories that the node makes.
        let host = node.cgroup().join("host/cgroup.procs");
        fs::write(&host, process.pid().to_string())
            .with_context(|| format!("cannot write {}", host.display()))?;
        Ok(Self {
            node: node.clone(),
            process,
            first,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// Its own addresses.
    #[must_use]
    pub fn address(&self) -> Address {
        self.node.address()
    }

    /// Where its Pods' addresses come from, in both families.
    pub(super) fn pod_ranges(&self) -> (String, String) {
        self.node.pod_ranges()
    }

    /// A path of the node's own file system, as this process sees it.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first))
    }

    /// Runs a program in all of the node's namespaces.
    pub fn run(&self, program: &Path, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string()]);
        command.args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup"]);
        command.arg(program).args(arguments).stdin(Stdio::null());
        let output = command
            .output()
            .context("cannot run nsenter: install util-linux")?;
        ensure!(
            output.status.success(),
            "{} {} on node {}: {}",
            program.display(),
            arguments.join(" "),
            self.name(),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output)
    }

    /// Gives its containerd the images of an OCI archive.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        let archive = archive.display().to_string();
        let ctr = programs()?.join("ctr");
        self.run(&ctr, &["-n", "k8s.io", "images", "import", &archive])?;
        Ok(())
    }

    /// Kills the kubelet; the node starts it again.
    pub fn kill_kubelet(&self) -> Result<()> {
        let before = self.process_with("kubelet", "")?;
        signal(before, Signal::SIGKILL)?;
        eventually("the kubelet runs again", || {
            let now = self.process_with("kubelet", "")?;
            ensure!(now != before, "it is the one that was killed");
            Ok(())
        })
    }

    /// Sends a signal to a process of a Pod whose command line has a word.
    pub(super) fn signal_in_pod(&self, uid: &str, word: &str, what: Signal) -> Result<()> {
        signal(self.process_with(word, uid)?, what)
    }

    /// The process with a word on its command line, in a cgroup whose path contains a text.
    fn process_with(&self, word: &str, cgroup: &str) -> Result<u32> {
        let text = |pid: u32, file: &str| {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let found = self.processes().into_iter().find(|pid| {
            text(*pid, "cmdline").split('\0').any(|it| it == word)
                && text(*pid, "cgroup").contains(cgroup)
        });
        found.with_context(|| format!("node {} runs no `{word}` {cgroup}", self.name()))
    }

    /// Everything that runs on it, as the machine counts.
    fn processes(&self) -> Vec<u32> {
        let mut found = Vec::new();
        let mut directories = vec![self.node.cgroup().to_owned()];
        while let Some(directory) = directories.pop() {
            let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            found.extend(members.lines().filter_map(|line| line.parse::<u32>().ok()));
            directories.extend(crate::lab::directories(&directory));
        }
        found
    }

    /// The last lines of what its services say.
    #[must_use]
    pub fn logs(&self) -> String {
        const LINES: usize = 40;
        let mut text = format!("--- node {}\n{}\n", self.name(), self.process.said());
        for name in ["containerd.log", "kubelet.log"] {
            let log = fs::read_to_string(self.node.run_dir().join(name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(LINES);
            text.push_str(&format!("--- {name}\n{}\n", lines[tail..].join("\n")));
        }
        text
    }
}

/// From the machine's namespaces into the node's: network and cgroups by the lab's tool, the rest made anew. The death
/// of the command ends the first process, and that of the first process all others.
fn command(node: &Node) -> Result<Command> {
    let mut command = Command::new(traffic_binary()?);
    command.arg("in").arg("--netns").arg(node.host().netns());
    for directory in cgroups::make(node)? {
        command.arg("--cgroup").arg(directory);
    }
    command.args(["--", "unshare", "--pid", "--mount", "--cgroup", "--uts"]);
    command.args(["--ipc", "--fork", "--kill-child", "--mount-proc"]);
    let programs = programs()?;
    command.arg(programs.join("cluster")).arg("node");
    command.arg("--directory").arg(node.run_dir());
    command.args(["--name", node.name(), "--address", &addresses(node)?]);
    command.arg("--programs").arg(&programs);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Ok(command)
}

fn write_files(node: &Node, control_plane: &ControlPlane) -> Result<()> {
    let kubeconfig = format!("kubelet-{}.kubeconfig", node.name());
    let kubeconfig = fs::read_to_string(control_plane.directory().join(kubeconfig))?;
    let files = [
        ("containerd.toml", config::containerd()),
        (
            "kubelet.json",
            config::kubelet(control_plane.ca()).to_string(),
        ),
        (
            "cni.conflist",
            config::network(&node.pod_ranges()).to_string(),
        ),
        ("resolv.conf", "nameserver 127.0.0.1\n".to_owned()),
        ("kubeconfig", kubeconfig),
    ];
    fs::create_dir_all(node.run_dir())?;
    for (name, text) in files {
        let path = node.run_dir().join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// As a kubelet takes them.
fn addresses(node: &Node) -> Result<String> {
    let all: Vec<String> = node.address().all().map(|it| it.to_string()).collect();
    ensure!(!all.is_empty(), "node {} has no address", node.name());
    Ok(all.join(","))
}

fn first_child(pid: u32) -> Result<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let first = children.split_whitespace().next();
    Ok(first.context("it has no child yet")?.parse()?)
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(pid)?), signal)
        .with_context(|| format!("cannot send {signal} to {pid}"))
}
