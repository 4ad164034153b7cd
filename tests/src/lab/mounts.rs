//! What is mounted where, from /proc/mounts.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

const BPFFS: &str = "/sys/fs/bpf";

static MOUNTING: Mutex<()> = Mutex::new(());

/// The first mount point of a file system type.
pub(super) fn first(kind: &str) -> Option<PathBuf> {
    all(kind).into_iter().next()
}

/// Every mount point of a file system type.
pub(super) fn all(kind: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let point = fields.next()?;
        (fields.next()? == kind).then(|| PathBuf::from(point))
    });
    points.collect()
}

/// Where bpffs is mounted; mounts it where it is missing.
pub(super) fn bpffs() -> Result<PathBuf> {
    // Two tests that mount at once would hide one's pins below the other's mount.
    let _guard = MOUNTING.lock();
    if let Some(point) = first("bpf") {
        return Ok(point);
    }
    mount(
        Some("bpf"),
        Path::new(BPFFS),
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .context("cannot mount bpffs at /sys/fs/bpf")?;
    Ok(PathBuf::from(BPFFS))
}
