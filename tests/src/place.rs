//! Where processes run: a network namespace and a cgroup.

use std::{
    ffi::OsStr,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, OnceLock},
};

use anyhow::{Context, Result, ensure};

use crate::{
    call::{Call, Load},
    lab::{Run, netns},
    process::Process,
    traffic::Report,
};

/// A network namespace and a cgroup: a pod, or a node's host side.
#[derive(Clone, Debug)]
pub struct Place {
    run: Arc<Run>,
    name: String,
    netns: PathBuf,
    cgroup: PathBuf,
    cpu: Option<usize>,
}

impl Place {
    pub(crate) fn new(run: &Arc<Run>, name: &str, netns: &Path, cgroup: &Path) -> Self {
        Self {
            run: Arc::clone(run),
            name: name.to_owned(),
            netns: netns.to_owned(),
            cgroup: cgroup.to_owned(),
            cpu: None,
        }
    }

    /// The same, and what runs there stays on one processor: for measurements that are compared.
    #[must_use]
    pub fn on_cpu(&self, cpu: usize) -> Self {
        Self {
            cpu: Some(cpu),
            ..self.clone()
        }
    }

    /// The network namespace.
    #[must_use]
    pub fn netns(&self) -> &Path {
        &self.netns
    }

    /// The cgroup.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// A path of the lab's own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.run.file(name)
    }

    /// A command that will run here.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Command> {
        let mut command = Command::new(traffic_binary()?);
        command.arg("in").arg("--netns").arg(&self.netns);
        command.arg("--cgroup").arg(&self.cgroup);
        if let Some(cpu) = self.cpu {
            command.arg("--cpu").arg(cpu.to_string());
        }
        command.arg("--").arg(program).args(arguments);
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a program to its end.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        let mut command = self.command(program, arguments)?;
        command
            .output()
            .with_context(|| format!("cannot run {}", program.display()))
    }

    /// Starts a program; what it says on stderr goes to a log of the lab.
    pub fn spawn<S: AsRef<OsStr>>(
        &self,
        title: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Process> {
        let mut command = self.command(program, arguments)?;
        command.stdout(Stdio::null());
        Process::spawn(command, self.run.log(title))
    }

    /// Starts servers for TCP and UDP on these ports, on every address, and waits until they listen. They answer
    /// with this name.
    pub fn serve(&self, name: &str, ports: &[u16]) -> Result<Process> {
        self.serve_on(name, &[], ports)
    }

    /// The same, on some addresses alone.
    pub fn serve_on(&self, name: &str, addresses: &[IpAddr], ports: &[u16]) -> Result<Process> {
        let mut arguments = vec!["serve".to_owned(), "--name".to_owned(), name.to_owned()];
        for port in ports {
            arguments.extend(["--port".to_owned(), port.to_string()]);
        }
        for address in addresses {
            arguments.extend(["--bind".to_owned(), address.to_string()]);
        }
        let mut command = self.command(&traffic_binary()?, arguments)?;
        command.stdout(Stdio::piped());
        let mut process = Process::spawn(command, self.run.log(&format!("serve-{name}")))?;
        // The server closes its output once it listens.
        process.output()?;
        ensure!(
            process.runs()?,
            "the server {name} ended: {}",
            process.said()
        );
        Ok(process)
    }

    /// Runs a call to its end, which it must have (a count or a duration).
    pub fn call(&self, call: &Call) -> Result<Report> {
        self.load(call)?.report()
    }

    /// Starts a call in the background.
    pub fn load(&self, call: &Call) -> Result<Load> {
        let mut command = self.command(&traffic_binary()?, &call.arguments)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let log = self.run.log(&format!("load-{}", self.name));
        Ok(Load(Process::spawn(command, log)?))
    }

    /// Does work of the caller's own in the network namespace (not in the cgroup).
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        netns::within(&self.netns, work)
    }
}

static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// From now on this is the traffic tool of this process; the first choice stands.
pub fn choose_traffic_binary(path: PathBuf) {
    CHOSEN.get_or_init(|| path);
}

/// The traffic tool: the one chosen, MESH_LAB_TRAFFIC, or what cargo built beside this program.
pub fn traffic_binary() -> Result<PathBuf> {
    if let Some(path) = CHOSEN.get() {
        return Ok(path.clone());
    }
    if let Some(path) = std::env::var_os("MESH_LAB_TRAFFIC") {
        return Ok(path.into());
    }
    let program = std::env::current_exe()?;
    program
        .ancestors()
        .skip(1)
        .take(3)
        .map(|directory| directory.join("traffic"))
        .find(|path| path.is_file())
        .context("the traffic tool is not built: cargo build -p mesh-lab --bin traffic")
}
