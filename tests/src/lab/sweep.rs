//! Removing a run: its processes, namespaces, cgroups, pins and files; and the runs that a dead process left behind.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result};

use super::{cgroup, files_directory, mounts, name, netns};

/// A run with this file in its directory outlives its process.
pub(super) const KEEP: &str = "keep";

/// Removes everything that carries the name of this run. Goes on through failures and reports the first.
pub fn remove_run(run: &str) -> Result<()> {
    let mut outcome = Ok(());
    let mut note = |result: Result<()>| {
        if outcome.is_ok() {
            outcome = result;
        }
    };
    note(cgroup::mount_point().and_then(|mount| cgroup::remove(&mount.join(run))));
    for mount in cgroup::version_one() {
        note(cgroup::remove(&mount.join(run)));
    }
    for name in netns::names(run) {
        note(netns::remove(&name));
    }
    if let Some(bpffs) = mounts::first("bpf") {
        note(remove_directory(&bpffs.join(run)));
    }
    note(remove_directory(&files_directory().join(run)));
    outcome
}

/// Removes what runs of dead processes left behind, unless they were kept.
pub fn sweep() -> Result<()> {
    for run in leftovers() {
        remove_run(&run).with_context(|| format!("what is left of {run} cannot be removed"))?;
    }
    Ok(())
}

fn leftovers() -> BTreeSet<String> {
    let mut places = vec![files_directory()];
    places.extend(cgroup::mount_point().ok());
    places.extend(cgroup::version_one());
    places.extend(mounts::first("bpf"));
    let mut names: BTreeSet<String> = places
        .iter()
        .flat_map(|place| super::entries(place, name::PREFIX))
        .collect();
    names.extend(
        netns::names(name::PREFIX)
            .iter()
            .filter_map(|it| run_of(it)),
    );
    names.retain(|run| {
        name::owner_lives(run) == Some(false) && !files_directory().join(run).join(KEEP).exists()
    });
    names
}

/// A namespace's name is that of its run, a dot and its own.
fn run_of(netns: &str) -> Option<String> {
    netns.split_once('.').map(|(run, _)| run.to_owned())
}

fn remove_directory(path: &Path) -> Result<()> {
    super::gone(fs::remove_dir_all(path))
        .with_context(|| format!("cannot remove {}", path.display()))
}
