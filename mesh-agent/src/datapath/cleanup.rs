//! Takes everything of ours off the host: links, programs and maps by their pins, then the directories. Works with
//! half of it missing, and without a running agent.

use std::{
    fs, io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use mesh_common::MAPS;

use super::{
    DatapathError,
    hooks::HOOKS,
    pins::{self, Pins},
    sys,
};

/// What is, or would be, removed, in order: hooks backwards (writers before readers), programs, maps, directories. `run_files` are
/// the names of ours in the run directory.
///
/// # Errors
/// At the first thing that cannot be removed; calling again goes on from there.
pub fn cleanup(
    bpffs: &Path,
    run_dir: &Path,
    run_files: &[&str],
    dry_run: bool,
) -> Result<Vec<PathBuf>, DatapathError> {
    let pins = Pins::at(bpffs);
    let mut found = Vec::new();
    if pins::is_bpffs(bpffs) {
        found.extend(
            HOOKS
                .iter()
                .rev()
                .map(|hook| pins.link(hook))
                .filter(|pin| pin.exists()),
        );
        // Links of hooks that another version had, and what has a temporary name.
        add(&pins.links(), |_| true, &mut found)?;
        add(&pins.programs(), |_| true, &mut found)?;
        add(bpffs, is_map, &mut found)?;
        found.extend([pins.links(), pins.programs()]);
        if !is_mount(bpffs) {
            found.push(bpffs.to_owned());
        }
    }
    found.extend(run_files.iter().map(|name| run_dir.join(name)));
    found.push(run_dir.to_owned());
    found.retain(|path| fs::symlink_metadata(path).is_ok());
    if !dry_run {
        // Without its pin a link lasts some milliseconds longer, and its program would miss those of its stages.
        for link in found
            .iter()
            .filter(|path| path.parent() == Some(&pins.links()))
        {
            detach(link);
        }
        let mut removed = Vec::new();
        for path in found {
            if remove(&path)? {
                removed.push(path);
            }
        }
        return Ok(removed);
    }
    Ok(found)
}

/// What cannot be detached, as before Linux 5.9, goes with its pin.
fn detach(link: &Path) {
    let detached = sys::object_get(link).and_then(|link| sys::link_detach(link.as_fd()));
    if let Err(error) = detached {
        tracing::debug!("{} is not detached before it goes: {error}", link.display());
    }
}

/// The file system's own directory was there before us.
fn is_mount(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    path.parent()
        .is_none_or(|parent| device(parent) != device(path))
}

fn add(
    directory: &Path,
    is_ours: impl Fn(&str) -> bool,
    found: &mut Vec<PathBuf>,
) -> Result<(), DatapathError> {
    for name in pins::list(directory)? {
        let path = directory.join(&name);
        if is_ours(&name) && !path.is_dir() && !found.contains(&path) {
            found.push(path);
        }
    }
    Ok(())
}

/// `NAME_vVERSION`, of any version, under its temporary name too.
fn is_map(name: &str) -> bool {
    let name = name.rsplit('-').next().unwrap_or(name);
    let Some((name, version)) = name.rsplit_once("_v") else {
        return false;
    };
    version.parse::<u32>().is_ok() && MAPS.iter().any(|spec| spec.name == name)
}

/// A directory that holds something of others stays.
fn remove(path: &Path) -> Result<bool, DatapathError> {
    if !path.is_dir() {
        return pins::remove(path).map(|()| true);
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        result => result
            .map(|()| true)
            .map_err(DatapathError::path("cannot remove", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::is_map;

    #[test]
    fn maps_are_known_by_their_names() {
        assert!(is_map("peer_cookies_v1") && is_map("sets_v12") && is_map("new-77-sets_v2"));
        assert!(!is_map("other_v1") && !is_map("sets") && !is_map("sets_vx"));
    }
}
