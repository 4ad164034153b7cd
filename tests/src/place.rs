//! Where processes run (a network namespace and a cgroup), the processes, and traffic between places.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    harness::eventually,
    lab::{Run, netns},
    traffic::Report,
};

/// A network namespace and a cgroup: a pod, or a node's host side.
#[derive(Clone, Debug)]
pub struct Place {
    run: Arc<Run>,
    name: String,
    netns: PathBuf,
    cgroup: PathBuf,
}

impl Place {
    pub(crate) fn new(run: &Arc<Run>, name: &str, netns: &Path, cgroup: &Path) -> Self {
        Self {
            run: Arc::clone(run),
            name: name.to_owned(),
            netns: netns.to_owned(),
            cgroup: cgroup.to_owned(),
        }
    }

    /// The network namespace.
    #[must_use]
    pub fn netns(&self) -> &Path {
        &self.netns
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
        if let Some(mut stdout) = process.child.stdout.take() {
            // The server closes its output once it listens.
            let mut nothing = Vec::new();
            stdout.read_to_end(&mut nothing)?;
        }
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

/// A process of the lab. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    detached: bool,
}

impl Process {
    pub(crate) fn spawn(mut command: Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let child = command
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self {
            child,
            log,
            detached: false,
        })
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// What it said on stderr so far.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        kill(Pid::from_raw(pid), signal)
            .with_context(|| format!("cannot send {signal} to process {pid}"))
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Asks it to end (SIGTERM) and waits. A server ends when nothing has come for a while.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait()
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Lets it outlive this handle.
    pub fn detach(mut self) {
        self.detached = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.detached {
            return;
        }
        // Both fail only for a process that has been waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Traffic in the background.
#[derive(Debug)]
pub struct Load(Process);

impl Load {
    /// Waits until all connections of a `hold` are open.
    pub fn holding(self) -> Result<Self> {
        eventually("the connections are open", || {
            ensure!(self.0.said().contains("holding"), "still opening");
            Ok(())
        })?;
        Ok(self)
    }

    /// Ends the traffic and says what became of it.
    pub fn stop(mut self) -> Result<Report> {
        drop(self.0.child.stdin.take());
        self.report()
    }

    /// Waits until the traffic ends by itself.
    pub fn report(mut self) -> Result<Report> {
        let mut text = String::new();
        if let Some(mut stdout) = self.0.child.stdout.take() {
            stdout.read_to_string(&mut text)?;
        }
        let status = self.0.wait()?;
        if !status.success() {
            bail!("traffic failed ({status}): {}", self.0.said());
        }
        serde_json::from_str(&text).with_context(|| format!("traffic said {text:?}"))
    }
}

/// What to send: arguments of the traffic tool.
#[derive(Clone, Debug)]
pub struct Call {
    arguments: Vec<String>,
}

impl Call {
    fn new(verb: &str, to: SocketAddr) -> Self {
        let to = to.to_string();
        Self {
            arguments: vec![verb.to_owned(), "--to".to_owned(), to],
        }
    }

    /// Connections, one after the other, each of which reads who answers.
    #[must_use]
    pub fn connect(to: SocketAddr) -> Self {
        Self::new("connect", to)
    }

    /// Connections that are kept open and asked now and then.
    #[must_use]
    pub fn hold(to: SocketAddr) -> Self {
        Self::new("hold", to)
    }

    /// Requests and responses over one connection.
    #[must_use]
    pub fn rr(to: SocketAddr) -> Self {
        Self::new("rr", to)
    }

    /// Connect, request, response, close.
    #[must_use]
    pub fn crr(to: SocketAddr) -> Self {
        Self::new("crr", to)
    }

    /// As many bytes as go through one connection.
    #[must_use]
    pub fn stream(to: SocketAddr) -> Self {
        Self::new("stream", to)
    }

    /// Another one to call, in turn with those before.
    #[must_use]
    pub fn also(self, to: SocketAddr) -> Self {
        self.option("--to", to)
    }

    /// Any flag of the tool.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.arguments.push(flag.to_owned());
        self
    }

    /// Any option of the tool.
    #[must_use]
    pub fn option(mut self, option: &str, value: impl ToString) -> Self {
        self.arguments.push(option.to_owned());
        self.arguments.push(value.to_string());
        self
    }

    /// How many.
    #[must_use]
    pub fn count(self, count: u64) -> Self {
        self.option("--count", count)
    }

    /// How many a second at most.
    #[must_use]
    pub fn rate(self, rate: u64) -> Self {
        self.option("--rate", rate)
    }

    /// By connected UDP sockets.
    #[must_use]
    pub fn udp(self) -> Self {
        self.option("--protocol", "udp")
    }

    /// By UDP sockets that are not connected (sendto and recvfrom), one for each datagram.
    #[must_use]
    pub fn unconnected(self) -> Self {
        self.option("--protocol", "udp-unconnected")
    }

    /// By AF_INET6 sockets, IPv4 written as ::ffff:a.b.c.d.
    #[must_use]
    pub fn mapped(self) -> Self {
        self.flag("--mapped")
    }

    /// An answer whose name does not begin so is misdirected.
    #[must_use]
    pub fn expect(self, prefix: &str) -> Self {
        self.option("--expect", prefix)
    }
}

/// The traffic tool: MESH_LAB_TRAFFIC, or what cargo built beside this program.
pub fn traffic_binary() -> Result<PathBuf> {
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
