//! Debian's and Ubuntu's package manager.

use std::{
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};

use crate::run;

/// Lists older than this often name packages that the mirror no longer has.
const LISTS_KEEP: Duration = Duration::from_secs(24 * 3600);

/// Whether this system has apt.
pub(super) fn is_here() -> bool {
    run::find("apt-get").is_some()
}

/// Whether the system's sources have a package.
pub(super) fn has(package: &str) -> Result<bool> {
    refresh()?;
    Ok(run::succeeds(
        Command::new("apt-cache").args(["show", package]),
    ))
}

/// Installs packages, and what they need, but nothing that they only recommend.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    refresh()?;
    run::run(
        run::as_root("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages),
    )
    .with_context(|| format!("cannot install {}", packages.join(" ")))
}

/// Fetches the lists when there are none or they are old.
fn refresh() -> Result<()> {
    if lists_age().is_some_and(|age| age < LISTS_KEEP) {
        return Ok(());
    }
    run::run(run::as_root("apt-get").arg("update"))
}

/// How long ago the newest list of packages was fetched.
fn lists_age() -> Option<Duration> {
    let entries = std::fs::read_dir("/var/lib/apt/lists").ok()?;
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().contains("_InRelease"))
        // The time a list was fetched: its modification time is the mirror's.
        .filter_map(|entry| {
            std::os::unix::fs::MetadataExt::ctime(&entry.metadata().ok()?)
                .try_into()
                .ok()
        })
        .map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        .filter_map(|fetched| SystemTime::now().duration_since(fetched).ok())
        .min()
}
