//! The real control plane of a lab: etcd, the API server and the controllers, started by the program of
//! tests/control-plane on a node of the lab or on loopback, and gone with the handle.

mod client;
mod object;
mod runner;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

pub use client::Client;

use crate::{lab::Node, place::Place, process::Process};

/// Where a control plane runs, and with what.
#[derive(Clone, Debug)]
pub struct ControlPlaneOptions {
    directory: PathBuf,
    place: Option<Place>,
    address: IpAddr,
    audit: bool,
    flags: Vec<String>,
}

impl ControlPlaneOptions {
    /// On loopback of this process's network namespace, with its files in a directory.
    #[must_use]
    pub fn local(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            place: None,
            address: Ipv4Addr::LOCALHOST.into(),
            audit: false,
            flags: Vec::new(),
        }
    }

    /// On a node's host side, where the whole lab reaches it. The node had better run no agent.
    pub fn on(node: &Node) -> Result<Self> {
        let address = node.address().all().next();
        Ok(Self {
            place: Some(node.host()),
            address: address.with_context(|| format!("node {} has no address", node.name()))?,
            ..Self::local(&node.run_dir().with_file_name("control-plane"))
        })
    }

    /// With an audit log of every request's metadata.
    #[must_use]
    pub fn audit(mut self) -> Self {
        self.audit = true;
        self
    }

    /// More flags of `control-plane up`.
    #[must_use]
    pub fn flags<S: ToString>(mut self, flags: &[S]) -> Self {
        self.flags.extend(flags.iter().map(S::to_string));
        self
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["up".to_owned()];
        let pairs = [
            ("--directory", self.directory.display().to_string()),
            ("--bind-address", self.address.to_string()),
        ];
        for (flag, value) in pairs {
            arguments.extend([flag.to_owned(), value]);
        }
        if !self.address.is_loopback() {
            arguments.extend(["--advertise-address".to_owned(), self.address.to_string()]);
        }
        if self.audit {
            arguments.push("--audit".to_owned());
        }
        arguments.extend(self.flags.iter().cloned());
        arguments
    }
}

/// What `control-plane up` prints once it serves.
#[derive(Clone, Debug, Deserialize)]
struct Ready {
    kubeconfig: PathBuf,
    server: String,
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    audit: Option<PathBuf>,
    directory: PathBuf,
}

/// An answer to a line on its stdin.
#[derive(Debug, Deserialize)]
struct Answer {
    error: Option<String>,
}

/// A control plane. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct ControlPlane {
    process: Process,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    ready: Ready,
    place: Option<Place>,
}

impl ControlPlane {
    /// Starts one and waits until it serves and its controllers work: some three seconds.
    pub fn start(options: &ControlPlaneOptions) -> Result<Self> {
        fs::create_dir_all(&options.directory)
            .with_context(|| format!("cannot make {}", options.directory.display()))?;
        let mut command = command(options)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(command, options.directory.join("up.log"))?;
        let (commands, answers) = process.pipes().context("it was started with pipes")?;
        let mut answers = BufReader::new(answers);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let ready = serde_json::from_str(&line)
            .with_context(|| format!("the control plane did not start: {}", process.said()))?;
        Ok(Self {
            process,
            commands: Some(commands),
            answers,
            ready,
            place: options.place.clone(),
        })
    }

    /// The kubeconfig of an administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.ready.kubeconfig
    }

    /// The API server's URL.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.ready.server
    }

    /// The certificate of its authority.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ready.ca
    }

    /// The API server's own certificate and key: for one who stands in its place.
    #[must_use]
    pub fn serving_pair(&self) -> (&Path, &Path) {
        (&self.ready.certificate, &self.ready.key)
    }

    /// The administrator's certificate and key.
    #[must_use]
    pub fn admin_pair(&self) -> (PathBuf, PathBuf) {
        let file = |name| self.ready.directory.join(name);
        (file("admin.crt"), file("admin.key"))
    }

    /// The audit log, if it was asked for.
    #[must_use]
    pub fn audit_log(&self) -> Option<&Path> {
        self.ready.audit.as_deref()
    }

    /// Where its files are: logs, certificates, kubeconfigs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.ready.directory
    }

    /// Where it runs, if not in this process's network namespace.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// A client with an administrator's rights.
    pub fn client(&self) -> Result<Client> {
        Client::new(self.kubeconfig(), self.place.as_ref())
    }

    /// Writes a kubeconfig in which USER is known by a token; gives its path.
    pub fn token_kubeconfig(&self, server: &str, user: &str, token: &str) -> Result<PathBuf> {
        let config = object::token_kubeconfig(server, &self.ready.ca, user, token);
        let path = self.ready.directory.join(format!("{user}.kubeconfig"));
        fs::write(&path, config.to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Asks the API server to end, which it does when its open requests are done or after five seconds.
    pub fn stop_apiserver(&mut self) -> Result<()> {
        self.command("stop apiserver")
    }

    /// Ends the API server at once.
    pub fn kill_apiserver(&mut self) -> Result<()> {
        self.command("kill apiserver")
    }

    /// Starts it again, at the same address, and waits until it is ready.
    pub fn start_apiserver(&mut self) -> Result<()> {
        self.command("start apiserver")
    }

    /// Any line that `control-plane up` knows: stop, kill or start, and etcd, apiserver or controllers.
    pub fn command(&mut self, line: &str) -> Result<()> {
        let commands = self.commands.as_mut().context("its input is closed")?;
        writeln!(commands, "{line}").with_context(|| self.process.said())?;
        let mut text = String::new();
        self.answers.read_line(&mut text)?;
        let answer: Answer = serde_json::from_str(&text)
            .with_context(|| format!("no answer to {line:?}: {}", self.process.said()))?;
        match answer.error {
            Some(error) => bail!("{line}: {error}"),
            None => Ok(()),
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        drop(self.commands.take());
        // With its input closed it ends, and removes its data, within milliseconds.
        drop(self.process.wait());
    }
}

fn command(options: &ControlPlaneOptions) -> Result<Command> {
    let binary = control_plane_binary()?;
    let arguments = options.arguments();
    if let Some(place) = &options.place {
        return place.command(&binary, arguments);
    }
    let mut command = Command::new(binary);
    command.args(arguments);
    Ok(command)
}

/// The program: MESH_CONTROL_PLANE_BIN.
pub fn control_plane_binary() -> Result<PathBuf> {
    let path = std::env::var_os("MESH_CONTROL_PLANE_BIN").map(PathBuf::from);
    path.filter(|path| path.is_file()).context(
        "MESH_CONTROL_PLANE_BIN names no program: `cargo xtask test control-plane` builds one",
    )
}
