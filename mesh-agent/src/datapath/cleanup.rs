//! Taking everything off the host: links in the reverse of their order, programs, maps, both directories.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{DatapathError, attach::HOOKS, pins};

/// What was removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// link, program, map, file or directory
    pub kind: &'static str,
    /// Where.
    pub path: PathBuf,
}

/// Removes what an agent with these directories left; with `dry_run` only says what that is. What is not there is done.
///
/// # Errors
/// The first thing that cannot be removed; what came before it is gone.
pub fn cleanup(bpffs: &Path, run_dir: &Path, dry_run: bool) -> Result<Vec<Removed>, DatapathError> {
    let things = inventory(bpffs, run_dir);
    if !dry_run {
        for thing in &things {
            remove(thing)?;
        }
    }
    Ok(things
        .into_iter()
        .filter(|thing| dry_run || !thing.path.exists())
        .collect())
}

fn inventory(bpffs: &Path, run_dir: &Path) -> Vec<Removed> {
    let mut things = Vec::new();
    let mut add = |kind, path: PathBuf| {
        if fs::symlink_metadata(&path).is_ok() {
            things.push(Removed { kind, path });
        }
    };
    let (links, programs) = (bpffs.join("links"), bpffs.join("programs"));
    for hook in HOOKS.iter().rev() {
        add("link", links.join(hook.name));
    }
    let known = |path: &PathBuf| HOOKS.iter().any(|hook| path.ends_with(hook.name));
    pins::entries(&links)
        .into_iter()
        .filter(|path| !known(path))
        .for_each(|path| add("link", path));
    pins::entries(&programs)
        .into_iter()
        .for_each(|path| add("program", path));
    pins::entries(bpffs)
        .into_iter()
        .filter(|path| path.is_file())
        .for_each(|path| add("map", path));
    [links, programs, bpffs.to_owned()]
        .into_iter()
        .for_each(|path| add("directory", path));
    for file in ["agent.sock", "agent.lock"] {
        add("file", run_dir.join(file));
    }
    add("directory", run_dir.to_owned());
    things
}

fn remove(thing: &Removed) -> Result<(), DatapathError> {
    if thing.kind != "directory" {
        return pins::remove(&thing.path);
    }
    match fs::remove_dir(&thing.path) {
        // Somebody else's file is in it: it stays, and so does the directory.
        Err(source)
            if !matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(DatapathError::Pin {
                action: "remove",
                path: thing.path.clone(),
                source,
            })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
