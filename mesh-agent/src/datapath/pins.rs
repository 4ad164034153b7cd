//! Names and directories of pins. Everything of ours lies in one directory on a bpffs: maps as `NAME_vVERSION`, links
//! in `links`, programs in `programs`. What is not in force yet is named `new-PID-NAME` and swept by the next start.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_common::MapSpec;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{Statfs, statfs},
};

use super::{DatapathError, hooks::Hook};

/// What a bpffs says it is to statfs. The C libraries disagree on the number's sign.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Where bpffs belongs.
pub(super) const MOUNT_POINT: &str = "/sys/fs/bpf";

const TEMPORARY: &str = "new-";

/// How long a process that ends may need until all its locks are gone.
const HAND_OVER: Duration = Duration::from_secs(2);

/// The directory of pins.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
    /// Held by the agent whose pins these are; others only look.
    lock: Option<Arc<Flock<fs::File>>>,
}

impl Pins {
    /// The directory as it is, or is not.
    pub(super) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            lock: None,
        }
    }

    /// Makes the directories where they are missing, refuses those that others can write, and sweeps what a run that
    /// was killed has left half-done.
    pub(super) fn prepare(root: &Path) -> Result<Self, DatapathError> {
        let mut pins = Self::at(root);
        if root.starts_with(MOUNT_POINT) && !is_bpffs(Path::new(MOUNT_POINT)) {
            mount_bpffs()?;
        }
        for directory in [root.to_owned(), pins.links(), pins.programs()] {
            make_private(&directory)?;
        }
        if !is_bpffs(root) {
            return Err(DatapathError::Directory {
                path: root.to_owned(),
                reason: "is not on a bpffs".to_owned(),
                fix: "mount one (mount -t bpf bpf /sys/fs/bpf) or choose another --bpffs",
            });
        }
        pins.lock()?;
        pins.sweep()?;
        Ok(pins)
    }

    /// Keeps other agents out for as long as this process lives. Those with the same run directory wait before they come
    /// here; one that has just ended may hold the lock a moment longer than that of its run directory.
    fn lock(&mut self) -> Result<(), DatapathError> {
        let began = Instant::now();
        let cannot = |source| DatapathError::path("cannot lock", &self.root)(source);
        let mut directory = fs::File::open(&self.root).map_err(cannot)?;
        loop {
            match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    self.lock = Some(Arc::new(lock));
                    return Ok(());
                }
                Err((again, Errno::EWOULDBLOCK)) if began.elapsed() < HAND_OVER => {
                    directory = again
                }
                Err((_, Errno::EWOULDBLOCK)) => {
                    return Err(DatapathError::Directory {
                        path: self.root.clone(),
                        reason: "is in use by an agent with another --run-dir".to_owned(),
                        fix: "stop that agent, or choose another --bpffs",
                    });
                }
                Err((_, error)) => return Err(cannot(error.into())),
            }
            std::thread::sleep(HAND_OVER / 100);
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    pub(super) fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    pub(super) fn link(&self, hook: &Hook) -> PathBuf {
        self.links().join(hook.name)
    }

    pub(super) fn program(&self, hook: &Hook) -> PathBuf {
        self.programs().join(hook.name)
    }

    pub(super) fn map(&self, spec: &MapSpec) -> PathBuf {
        self.version(spec.name, spec.version)
    }

    pub(super) fn version(&self, map: &str, version: u32) -> PathBuf {
        self.root.join(format!("{map}_v{version}"))
    }

    /// Versions of a map that are pinned.
    pub(super) fn versions(&self, map: &str) -> Result<Vec<u32>, DatapathError> {
        let names = list(&self.root)?;
        let mut versions: Vec<u32> = names
            .iter()
            .filter_map(|name| name.strip_prefix(map)?.strip_prefix("_v")?.parse().ok())
            .collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// Takes away what has a temporary name. The agent's lock is held, so its maker is dead.
    fn sweep(&self) -> Result<(), DatapathError> {
        for directory in [self.root.clone(), self.links(), self.programs()] {
            for name in list(&directory)? {
                if name.starts_with(TEMPORARY) {
                    remove(&directory.join(name))?;
                }
            }
        }
        Ok(())
    }
}

/// The name of something until it is in force; renamed over the final one then.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{TEMPORARY}{}-{name}", std::process::id()))
}

/// Unpins; that nothing is there is fine.
pub(super) fn remove(path: &Path) -> Result<(), DatapathError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(DatapathError::path("cannot remove", path)),
    }
}

/// Puts a pin in the place of another, at one instant.
pub(super) fn replace(from: &Path, to: &Path) -> Result<(), DatapathError> {
    fs::rename(from, to).map_err(DatapathError::path("cannot rename a pin to", to))
}

/// Names in a directory, in byte order; none if it is not there.
pub(super) fn list(directory: &Path) -> Result<Vec<String>, DatapathError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(DatapathError::path("cannot read", directory))?,
    };
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// Whether a path is on a bpffs.
pub(super) fn is_bpffs(path: &Path) -> bool {
    let magic = |status: Statfs| u64::from_ne_bytes(status.filesystem_type().0.to_ne_bytes());
    statfs(path).is_ok_and(|status| magic(status) == BPF_FS_MAGIC)
}

fn mount_bpffs() -> Result<(), DatapathError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some("bpf"),
        MOUNT_POINT,
        Some("bpf"),
        flags,
        Some("mode=0700"),
    )
    .map_err(io::Error::from)
    .map_err(DatapathError::path("cannot mount a bpffs at", MOUNT_POINT))
}

fn make_private(directory: &Path) -> Result<(), DatapathError> {
    let failed = DatapathError::path("cannot make the directory", directory);
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        Ok(()) => {
            // The mask of the process may have taken away what the owner needs.
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        }
        Err(_) => {}
    }
    let status = fs::symlink_metadata(directory)
        .map_err(DatapathError::path("cannot look at", directory))?;
    match distrust(&status) {
        None => Ok(()),
        Some(reason) => Err(DatapathError::Directory {
            path: directory.to_owned(),
            reason,
            fix: "whoever can write there can replace the programs: remove it, or choose another --bpffs",
        }),
    }
}

/// Why a directory may not be trusted.
pub(super) fn distrust(status: &fs::Metadata) -> Option<String> {
    let owner = nix::unistd::geteuid().as_raw();
    if !status.is_dir() {
        return Some("is not a directory".to_owned());
    }
    if status.uid() != owner {
        return Some(format!("belongs to user {}, not to {owner}", status.uid()));
    }
    let mode = status.mode() & 0o777;
    (mode & 0o022 != 0).then(|| format!("can be written by others (mode {mode:03o})"))
}
