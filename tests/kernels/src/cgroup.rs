//! A cgroup of the smoke program's own, which it enters for its traffic.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Entered by this process; left and removed by `leave`, or when dropped on the way out of an error.
pub(crate) struct Cgroup {
    path: PathBuf,
    before: PathBuf,
    directory: File,
}

impl Cgroup {
    /// Makes it below the cgroup2 mount and enters it.
    pub(crate) fn enter() -> Result<Self> {
        let mount = mount(&fs::read_to_string("/proc/mounts")?)
            .context("no cgroup2 is mounted: mount -t cgroup2")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .context("this process is in no cgroup2")?;
        let path = mount.join(format!("mesh-smoke-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let cgroup = Self {
            before: mount.join(own),
            directory: File::open(&path)?,
            path,
        };
        join(&cgroup.path)?;
        Ok(cgroup)
    }

    /// What programs are attached to.
    pub(crate) fn directory(&self) -> &File {
        &self.directory
    }

    /// Goes back and removes it.
    pub(crate) fn leave(self) -> Result<()> {
        self.remove()
    }

    fn remove(&self) -> Result<()> {
        if !self.path.exists() {
            return Ok(());
        }
        join(&self.before)?;
        fs::remove_dir(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("{error:#}");
        }
    }
}

fn join(cgroup: &Path) -> Result<()> {
    let file = cgroup.join("cgroup.procs");
    fs::write(&file, std::process::id().to_string())
        .with_context(|| format!("cannot enter {}", cgroup.display()))
}

/// Where cgroup2 is mounted: on hosts with both hierarchies it is not the root of /sys/fs/cgroup.
fn mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (path, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_mount_is_found_in_a_hybrid_hierarchy() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(super::mount(mounts), Some("/sys/fs/cgroup/unified".into()));
    }
}
