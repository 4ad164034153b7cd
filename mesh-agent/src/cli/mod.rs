//! The commands. Arguments in, data on stdout, diagnostics on stderr, and an exit status: 0 fine, 1 a check failed or
//! the agent is unhealthy, 2 wrong usage.

pub mod args;
mod bpf;
mod check;
pub mod codes;
pub(crate) mod duration;
mod endpoint;
mod host;
mod reference;
mod service;
mod status;
mod table;
mod terminal;
mod trace;

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};
use nix::sys::signal::{SigSet, Signal};

pub use host::{CheckTarget, Fault, Host};
pub use reference::reference;

use crate::{
    admin::{
        client::{Client, ClientError},
        lock::{self, LockError},
    },
    config::{ConfigError, Directories, RunConfig},
    telemetry::{
        log,
        view::{CleanupView, Document, Items, LogLevelView, VersionView},
    },
};
use args::{CheckArgs, CleanupArgs, Cli, Command, MapName, Output, OutputArgs, RunArgs};
use table::Table;
use terminal::Terminal;

/// Whether what a command looked at is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    Unhealthy,
}

impl From<bool> for Verdict {
    fn from(fine: bool) -> Self {
        if fine { Self::Fine } else { Self::Unhealthy }
    }
}

/// Why a command did not come to an answer.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Log(#[from] log::LogError),
    #[error(transparent)]
    Host(#[from] Fault),
    #[error("an agent (pid {pid}) runs on {run_dir:?}; stop it first, or look with --dry-run")]
    AgentRuns {
        pid: u32,
        run_dir: std::path::PathBuf,
    },
    #[error("there is no unconnected TCP socket: leave out --unconnected, or say --protocol udp")]
    UnconnectedTcp,
    #[error(
        "--from and --to: one is IPv4 and the other IPv6, which no packet can be; give two of one family"
    )]
    Families,
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    const fn exit_status(&self) -> u8 {
        match self {
            Self::Config(_) | Self::UnconnectedTcp | Self::Families => 2,
            Self::Client(_)
            | Self::Lock(_)
            | Self::Log(_)
            | Self::Host(_)
            | Self::AgentRuns { .. }
            | Self::Output(_) => 1,
        }
    }
}

/// The whole program.
pub fn main(host: &dyn Host) -> ExitCode {
    let stdout = io::stdout();
    let mut out = io::BufWriter::new(stdout.lock());
    let mut terminal = Terminal::new(&mut out, terminal::colour());
    ExitCode::from(run(
        std::env::args_os(),
        host,
        &mut terminal,
        &mut io::stderr(),
    ))
}

fn run(
    arguments: impl IntoIterator<Item = OsString>,
    host: &dyn Host,
    terminal: &mut Terminal<'_>,
    err: &mut dyn Write,
) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, terminal, err),
    };
    match execute(cli, host, terminal) {
        Ok(Verdict::Fine) => 0,
        Ok(Verdict::Unhealthy) => 1,
        // Whoever read us has seen enough (`mesh-agent bpf backends | head`).
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            say(err, &format!("mesh-agent: {error}"));
            error.exit_status()
        }
    }
}

/// Help and version are data; anything else that clap has to say is an error.
fn usage(error: &clap::Error, terminal: &mut Terminal<'_>, err: &mut dyn Write) -> u8 {
    let text = error.render().to_string();
    if error.use_stderr() {
        say(err, text.trim_end());
        return 2;
    }
    match terminal.text(&text) {
        Ok(()) => 0,
        Err(error) => u8::from(error.kind() != io::ErrorKind::BrokenPipe),
    }
}

fn say(err: &mut dyn Write, text: &str) {
    // There is nobody to tell that stderr is gone.
    writeln!(err, "{text}").unwrap_or_default();
}

fn execute(cli: Cli, host: &dyn Host, terminal: &mut Terminal<'_>) -> Result<Verdict, CliError> {
    let directories = Directories::from(cli.directories);
    let client = Client::new(&directories.run_dir);
    match cli.command {
        Command::Run(args) => daemon(directories, *args, host),
        Command::Check(args) => checked(&directories.checked()?, &args, host, terminal),
        Command::Status(args) => status::run(&client, &args, terminal),
        Command::Service(command) => service::run(&client, &command, terminal),
        Command::Endpoint(command) => endpoint::run(&client, &command, terminal),
        Command::Bpf(args) => {
            let live = host.live(&directories.checked()?, args.map == MapName::Flows)?;
            bpf::show(&live, args.map, args.output.output, terminal)?;
            Ok(Verdict::Fine)
        }
        Command::Trace(args) => {
            let kind = trace::kind(&args).ok_or(CliError::UnconnectedTcp)?;
            if args
                .from
                .is_some_and(|from| from.is_ipv4() != args.to.is_ipv4())
            {
                return Err(CliError::Families);
            }
            let live = host.live(&directories.checked()?, args.packet.is_some())?;
            let document = Document::new("Trace", trace::trace(&live, &args, kind));
            terminal.show(args.output.output, &document, trace::table)?;
            Ok(Verdict::Fine)
        }
        Command::Cleanup(args) => cleanup(&directories.checked()?, &args, host, terminal),
        Command::Log { level } => {
            let level = level.to_string();
            let _: Document<LogLevelView> = client.put("/v1/log-level", &LogLevelView { level })?;
            Ok(Verdict::Fine)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "mesh-agent", &mut script);
            terminal.text(&String::from_utf8_lossy(&script))?;
            Ok(Verdict::Fine)
        }
        Command::Version(args) => version(args, terminal),
    }
}

/// Errors of the daemon go the way of its log, so that a log in JSON stays one.
fn daemon(directories: Directories, args: RunArgs, host: &dyn Host) -> Result<Verdict, CliError> {
    let host_name = || nix::unistd::gethostname().unwrap_or_default();
    let config = RunConfig::new(directories, args, host_name)?;
    let handle = log::init(config.logging.format, &config.logging.level)?;
    for warning in &config.warnings {
        tracing::warn!("--config: {warning}");
    }
    match host.run(config, handle) {
        Ok(()) => Ok(Verdict::Fine),
        Err(fault) => {
            tracing::error!("{fault}");
            Ok(Verdict::Unhealthy)
        }
    }
}

fn checked(
    directories: &Directories,
    args: &CheckArgs,
    host: &dyn Host,
    terminal: &mut Terminal<'_>,
) -> Result<Verdict, CliError> {
    let agent = (!args.pre).then(|| check::agent(&Client::new(&directories.run_dir)));
    // The agent that runs may have been told another cgroup than the mount.
    let its = agent.as_ref().and_then(|agent| agent.cgroup.as_deref());
    let mut items = host.check(&CheckTarget {
        directories,
        cgroup: args.cgroup.as_deref().or(its),
    });
    items.extend(agent.into_iter().flat_map(|agent| agent.checks));
    let verdict = check::verdict(&items);
    let document = Document::new("CheckList", Items { items });
    terminal.show(args.output.output, &document, check::table)?;
    Ok(verdict)
}

fn cleanup(
    directories: &Directories,
    args: &CleanupArgs,
    host: &dyn Host,
    terminal: &mut Terminal<'_>,
) -> Result<Verdict, CliError> {
    let is_ours = !args.kube_proxy_rules;
    if is_ours
        && !args.dry_run
        && let Some(pid) = lock::holder(&directories.run_dir)?
    {
        let run_dir = directories.run_dir.clone();
        return Err(CliError::AgentRuns { pid, run_dir });
    }
    let items = if is_ours {
        host.cleanup(directories, args.dry_run)?
    } else {
        host.clean_kube_proxy(args.dry_run, args.force)?
    };
    let dry_run = args.dry_run;
    let document = Document::new("Cleanup", CleanupView { dry_run, items });
    terminal.show(args.output.output, &document, |content, _| {
        if content.items.is_empty() {
            let whose = if is_ours { "ours" } else { "kube-proxy's" };
            return format!("nothing of {whose} is on this host\n");
        }
        let heading = if dry_run { "WOULD REMOVE" } else { "REMOVED" };
        let mut table = Table::new(&[heading, "NAME"]);
        for item in &content.items {
            table.row([&item.what, &item.name]);
        }
        table.render()
    })?;
    if args.then_wait {
        wait_for_the_end()?;
    }
    Ok(Verdict::Fine)
}

/// By name, because the kernel keeps from a container's first process every signal that it does not ask for.
fn wait_for_the_end() -> io::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block()?;
    signals.wait()?;
    Ok(())
}

fn version(args: OutputArgs, terminal: &mut Terminal<'_>) -> Result<Verdict, CliError> {
    let content = VersionView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        layouts: format!("{:016x}", mesh_common::fingerprint()),
    };
    let document = Document::new("Version", content);
    let output: Output = args.output;
    terminal.show(output, &document, |it, _| {
        format!("mesh-agent {}\nlayouts {}\n", it.version, it.layouts)
    })?;
    Ok(Verdict::Fine)
}

#[cfg(test)]
mod tests;
