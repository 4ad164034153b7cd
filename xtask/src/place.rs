//! Where things are: the tree, cargo's target directory, and the cache for what is downloaded or slow to make.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The root of the tree.
pub(crate) fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || root().join("target"),
        // Cargo takes a relative one from where it is run, which for every verb is the root.
        |directory| root().join(directory),
    )
}

/// The cache, outside of the tree so that a fresh clone finds it: `$MESH_AGENT_CACHE`, else below the home directory.
pub(crate) fn cache() -> Result<PathBuf> {
    let directory = match std::env::var_os("MESH_AGENT_CACHE") {
        Some(directory) => PathBuf::from(directory),
        None => std::env::home_dir()
            .context("no home directory for the cache: set MESH_AGENT_CACHE to a directory")?
            .join(".cache/mesh-agent"),
    };
    std::fs::create_dir_all(&directory).with_context(|| {
        format!(
            "cannot make the cache {}: set MESH_AGENT_CACHE to a directory that can be written",
            directory.display()
        )
    })?;
    Ok(directory)
}
