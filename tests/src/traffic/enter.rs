//! `in`: enters a network namespace and a cgroup, then becomes the command.

use std::{os::unix::process::CommandExt, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::lab::{cgroup, netns};

#[derive(Debug, clap::Args)]
pub(super) struct EnterArgs {
    /// The network namespace, as a file.
    #[arg(long)]
    netns: Option<PathBuf>,
    /// Stay on this processor
    #[arg(long)]
    cpu: Option<usize>,
    /// A directory of cgroups, one for each hierarchy.
    #[arg(long)]
    cgroup: Vec<PathBuf>,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Returns only if it fails. The cgroup comes first: it is joined before the program's first socket exists.
pub(super) fn enter(args: &EnterArgs) -> Result<()> {
    for path in &args.cgroup {
        cgroup::join(path)?;
    }
    if let Some(path) = &args.netns {
        netns::enter(path)?;
    }
    if let Some(cpu) = args.cpu {
        let mut set = CpuSet::new();
        set.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &set)?;
    }
    let (program, arguments) = args.command.split_first().context("a command is needed")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {program}"))
}
