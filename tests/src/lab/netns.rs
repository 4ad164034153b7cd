//! Network namespaces by name, entered by a thread of their own.
//!
//! Only the network namespace is entered. `ip netns exec` would mount /sys anew, and cgroup2 and bpffs would be gone.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::{
    mount::{MntFlags, umount2},
    sched::{CloneFlags, setns},
};

const DIRECTORY: &str = "/run/netns";

/// Where a namespace of this name is found.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Puts the calling thread into the namespace, for good.
pub(crate) fn enter(netns: &Path) -> Result<()> {
    let file = File::open(netns)
        .with_context(|| format!("cannot open the network namespace {}", netns.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("cannot enter the network namespace {}", netns.display()))
}

/// Does the work in the namespace. A panic in there goes on out here.
pub(crate) fn within<T: Send>(netns: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let outcome = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                enter(netns)?;
                work()
            })
            .join()
    });
    outcome.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}

/// Sets sysctls of the calling thread's network namespace; a key that this kernel lacks is no error.
pub(crate) fn sysctls(settings: &[(&str, &str)]) -> Result<()> {
    for (key, value) in settings {
        let path = Path::new("/proc/sys/net").join(key);
        match fs::write(&path, value) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot write {}", path.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// All names that begin with a prefix.
pub(super) fn names(prefix: &str) -> Vec<String> {
    super::entries(Path::new(DIRECTORY), prefix)
}

/// Takes the name away; the namespace goes when its last process does.
pub(super) fn remove(name: &str) -> Result<()> {
    let path = path(name);
    // A file without a mount is what is left when two sweep at once, or of a crash half-way: EINVAL.
    if let Err(error) = umount2(&path, MntFlags::MNT_DETACH)
        && !matches!(error, nix::Error::EINVAL | nix::Error::ENOENT)
    {
        return Err(error).with_context(|| format!("cannot unmount {}", path.display()));
    }
    super::gone(fs::remove_file(&path)).with_context(|| format!("cannot remove {}", path.display()))
}
