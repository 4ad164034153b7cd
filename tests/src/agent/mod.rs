//! The real agent on a node: started, stopped, killed, asked.

mod http;
mod metrics;

use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{ExitStatus, Output},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

pub use http::Response;
pub use metrics::Metrics;

use crate::{harness::eventually, lab::Node, place::Place, process::Process};

const HEALTH_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;

/// Which agent to start, and with what beside the lab's own flags.
#[derive(Clone, Debug, Default)]
pub struct AgentOptions {
    /// The binary; the workspace's own unless given.
    pub binary: Option<PathBuf>,
    /// Flags of `run`, in place of the lab's own where they are the same.
    pub flags: Vec<String>,
    /// The capabilities that it has, by setpriv's names, as a container of root's would; all of them unless given.
    pub capabilities: Option<Vec<String>>,
}

impl AgentOptions {
    /// Another binary.
    #[must_use]
    pub fn binary(path: &Path) -> Self {
        Self {
            binary: Some(path.to_owned()),
            ..Self::default()
        }
    }

    /// The second build: another layout of some maps, and programs that say what they decide.
    pub fn second_build() -> Result<Self> {
        let path = std::env::var_os("MESH_AGENT_NEXT_BIN");
        let path = path.context("MESH_AGENT_NEXT_BIN is not set")?;
        Ok(Self::binary(Path::new(&path)))
    }

    /// One more flag.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// More flags.
    #[must_use]
    pub fn flags<S: ToString>(flags: &[S]) -> Self {
        Self {
            flags: flags.iter().map(S::to_string).collect(),
            ..Self::default()
        }
    }

    /// No more than these capabilities.
    #[must_use]
    pub fn capabilities(names: &[&str]) -> Self {
        Self {
            capabilities: Some(names.iter().map(ToString::to_string).collect()),
            ..Self::default()
        }
    }

    /// What comes before the agent's arguments: its binary, under setpriv where it is to have less.
    fn command(&self) -> Result<Vec<OsString>> {
        let binary = self.binary.clone().map_or_else(agent_binary, Ok)?;
        let mut words: Vec<OsString> = Vec::new();
        if let Some(names) = &self.capabilities {
            let kept: String = names.iter().map(|name| format!(",+{name}")).collect();
            words.push("setpriv".into());
            words.push(format!("--bounding-set=-all{kept}").into());
            words.extend(["--inh-caps=-all", "--ambient-caps=-all"].map(OsString::from));
        }
        words.push(binary.into());
        Ok(words)
    }
}

/// What a subcommand said.
#[derive(Clone, Debug)]
pub struct CliOutput {
    /// The exit status.
    pub status: ExitStatus,
    /// Data.
    pub stdout: String,
    /// Diagnostics.
    pub stderr: String,
}

impl CliOutput {
    fn new(output: Output) -> Self {
        Self {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The output of a command that went well.
    pub fn ok(self) -> Result<Self> {
        if !self.status.success() {
            bail!("{}: {}{}", self.status, self.stderr, self.stdout);
        }
        Ok(self)
    }
}

/// An agent on a node. Dropping it kills it; what it pinned stays until the lab is removed.
#[derive(Debug)]
pub struct Agent {
    node: Node,
    command: Vec<OsString>,
    process: Process,
}

impl Agent {
    pub(crate) fn start(node: &Node, options: &AgentOptions) -> Result<Self> {
        let command = options.command()?;
        let title = format!("agent-{}", node.name());
        let own = run_flags(node);
        let own = own
            .iter()
            .filter(|(flag, _)| !options.flags.iter().any(|it| it == flag));
        let own = own.flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]);
        let arguments = std::iter::once("run".to_owned())
            .chain(own)
            .chain(options.flags.iter().cloned())
            .map(OsString::from);
        let arguments = command[1..].iter().cloned().chain(arguments);
        Ok(Self {
            process: node.host().spawn(&title, command[0].as_ref(), arguments)?,
            node: node.clone(),
            command,
        })
    }

    /// Waits until it has programmed and attached everything, or fails with what it said.
    pub fn wait_ready(&self) -> Result<()> {
        let alive = eventually("the agent is ready", || {
            if !self.is_running()? {
                return Ok(false);
            }
            let response = self.health("/readyz")?;
            ensure!(response.status == 200, "not ready: {}", response.body);
            Ok(true)
        })?;
        ensure!(alive, "the agent ended:\n{}", self.said());
        Ok(())
    }

    /// Whether the process lives. A zombie does not.
    pub fn is_running(&self) -> Result<bool> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        Ok(stat.is_ok_and(|stat| !stat.contains(") Z ")))
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it logged so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.process.said()
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// SIGTERM, and its exit status.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.stop()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.process.wait()
    }

    /// Lets it outlive this handle.
    pub fn detach(self) {
        self.process.detach();
    }

    /// GET from the health server.
    pub fn health(&self, path: &str) -> Result<Response> {
        get(&self.node.host(), HEALTH_PORT, path, None)
    }

    /// GET /metrics with an Accept header.
    pub fn metrics_as(&self, accept: Option<&str>) -> Result<Response> {
        get(&self.node.host(), METRICS_PORT, "/metrics", accept)
    }

    /// All metrics.
    pub fn metrics(&self) -> Result<Metrics> {
        let response = self.metrics_as(None)?;
        ensure!(response.status == 200, "/metrics: {response:?}");
        Metrics::parse(&response.body)
    }

    /// Runs a subcommand against this agent.
    pub fn cli(&self, arguments: &[&str]) -> Result<CliOutput> {
        cli(&self.node, &self.command, arguments)
    }

    /// Runs a subcommand with `-o json`; it must go well.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
        let output = self.cli(&arguments)?.ok()?;
        serde_json::from_str(&output.stdout)
            .with_context(|| format!("{arguments:?} said {:?}", output.stdout))
    }
}

impl Node {
    /// GET from whatever serves on this port of the node's loopback.
    pub fn get(&self, port: u16, path: &str) -> Result<Response> {
        get(&self.host(), port, path, None)
    }

    /// GET from whatever serves on this port of the node's address of a family.
    pub fn get_outside(&self, v4: bool, port: u16, path: &str) -> Result<Response> {
        let mut addresses = self.address().all();
        let address = addresses.find(|address| address.is_ipv4() == v4);
        let address = address.context("the node has no address of the family")?;
        let socket = SocketAddr::new(address, port);
        self.host().within(|| http::get(socket, path, None))
    }

    /// Runs a subcommand of the workspace's agent on this node; no agent has to run.
    pub fn cli(&self, arguments: &[&str]) -> Result<CliOutput> {
        cli(self, &AgentOptions::default().command()?, arguments)
    }
}

fn cli(node: &Node, command: &[OsString], arguments: &[&str]) -> Result<CliOutput> {
    let mut all = command[1..].to_vec();
    all.extend(arguments.iter().map(OsString::from));
    for (flag, value) in directories(node) {
        all.extend([flag.into(), value.into()]);
    }
    node.host()
        .run(command[0].as_ref(), all)
        .map(CliOutput::new)
}

fn directories(node: &Node) -> [(&'static str, String); 2] {
    [
        ("--bpffs", node.bpffs().display().to_string()),
        ("--run-dir", node.run_dir().display().to_string()),
    ]
}

fn run_flags(node: &Node) -> Vec<(&'static str, String)> {
    let mut flags = vec![
        ("--node-name", node.name().to_owned()),
        ("--cgroup", node.cgroup().display().to_string()),
        ("--healthz-bind-address", format!("0.0.0.0:{HEALTH_PORT}")),
        (
            "--metrics-bind-address",
            format!("127.0.0.1:{METRICS_PORT}"),
        ),
    ];
    flags.extend(directories(node));
    match node.kubeconfig() {
        Some(kubeconfig) => flags.extend([
            ("--source", "kube".to_owned()),
            ("--kubeconfig", kubeconfig.display().to_string()),
        ]),
        None => flags.push(("--source", format!("dir:{}", node.manifests().display()))),
    }
    flags
}

fn get(place: &Place, port: u16, path: &str, accept: Option<&str>) -> Result<Response> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    place.within(|| http::get(address, path, accept))
}

/// The agent under test: MESH_AGENT_BIN, or what cargo built beside this program.
pub fn agent_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MESH_AGENT_BIN") {
        return Ok(path.into());
    }
    let program = std::env::current_exe()?;
    let target = program
        .ancestors()
        .find(|directory| directory.file_name().is_some_and(|name| name == "target"))
        .context("this program is in no target directory: set MESH_AGENT_BIN")?;
    ["release", "debug"]
        .map(|profile| target.join(profile).join("mesh-agent"))
        .into_iter()
        .find(|path| path.is_file())
        .context(
            "the agent is not built: cargo build --release -p mesh-agent, or set MESH_AGENT_BIN",
        )
}
