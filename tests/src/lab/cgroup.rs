//! cgroup2 directories: made, emptied, removed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::mounts;

/// Processes that were killed leave their cgroup a moment later.
const EMPTYING: Duration = Duration::from_secs(10);

/// Where cgroup2 is mounted; on hosts with both hierarchies that is not /sys/fs/cgroup.
pub(crate) fn mount_point() -> Result<PathBuf> {
    mounts::first("cgroup2").context("cgroup2 is not mounted: mount -t cgroup2 none DIRECTORY")
}

/// Where the hierarchies of version 1 are mounted, on hosts that have them. Only nodes of real clusters use them.
pub(crate) fn version_one() -> Vec<PathBuf> {
    mounts::all("cgroup")
}

/// Makes a directory and those above it.
pub(super) fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make the cgroup {}", path.display()))
}

/// Moves the calling process into the cgroup.
pub(crate) fn join(path: &Path) -> Result<()> {
    fs::write(path.join("cgroup.procs"), std::process::id().to_string())
        .with_context(|| format!("cannot join the cgroup {}", path.display()))
}

/// Kills what is in the cgroup and below it, by pid, until nothing is; then removes all of it.
pub(super) fn remove(path: &Path) -> Result<()> {
    let deadline = Instant::now() + EMPTYING;
    loop {
        kill_all(path)?;
        match remove_tree(path) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                bail!("cannot remove the cgroup {}: {error}", path.display())
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn kill_all(path: &Path) -> Result<()> {
    for directory in super::directories(path) {
        kill_all(&directory)?;
    }
    let Ok(members) = fs::read_to_string(path.join("cgroup.procs")) else {
        return Ok(());
    };
    for pid in members.lines().filter_map(|line| line.parse().ok()) {
        match kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) | Err(nix::Error::ESRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot kill {pid}")),
        }
    }
    Ok(())
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for directory in super::directories(path) {
        remove_tree(&directory)?;
    }
    super::gone(fs::remove_dir(path))
}
