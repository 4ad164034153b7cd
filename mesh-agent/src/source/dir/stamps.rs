//! Which files of a directory changed, by stat alone: cheap enough to be done often, and right whatever inotify said.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

/// A file written this recently may not be done: the event that its writer closed it says so.
const WARM: Duration = Duration::from_secs(1);

/// As far as stat can tell, files with the same stamp have the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What a scan found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// New files, and those that changed.
    pub(super) changed: Vec<String>,
    /// Files that are gone.
    pub(super) gone: Vec<String>,
}

/// The files as they were last seen; None where a name is there and leads nowhere.
#[derive(Debug, Default)]
pub(super) struct Stamps(BTreeMap<String, Option<Stamp>>);

/// Whether a file of this name is a manifest.
pub(super) fn is_manifest(name: &str) -> bool {
    !name.starts_with('.')
        && [".yaml", ".yml", ".json"]
            .iter()
            .any(|ending| name.ends_with(ending))
}

impl Stamps {
    /// Whether files were seen before, and the directory has none now.
    pub(super) fn would_lose_all(&self, directory: &Path) -> io::Result<bool> {
        Ok(!self.0.is_empty() && manifests(directory)?.is_empty())
    }

    /// Looks at every file. With `wait_for_writers`, files that may still be written are left for the next scan.
    pub(super) fn scan(&mut self, directory: &Path, wait_for_writers: bool) -> io::Result<Scan> {
        let found = manifests(directory)?;
        let gone = self.0.keys().filter(|name| !found.contains(*name));
        let gone: Vec<String> = gone.cloned().collect();
        let mut changed = Vec::new();
        for name in found {
            if wait_for_writers && is_warm(&directory.join(&name)) {
                continue;
            }
            if self.note(directory, &name) {
                changed.push(name);
            }
        }
        for name in &gone {
            self.0.remove(name);
        }
        Ok(Scan { changed, gone })
    }

    /// Notes a file's stamp, before it is read; whether it is another than before.
    pub(super) fn note(&mut self, directory: &Path, name: &str) -> bool {
        let path = directory.join(name);
        if fs::symlink_metadata(&path).is_err() {
            return self.0.remove(name).is_some();
        }
        let stamp = fs::metadata(&path).ok().map(|metadata| Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        });
        self.0.insert(name.to_owned(), stamp) != Some(stamp)
    }

    /// The names of all files.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The names of the manifests in a directory.
fn manifests(directory: &Path) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        match entry?.file_name().into_string() {
            Ok(name) if is_manifest(&name) => drop(found.insert(name)),
            Ok(_) => {}
            Err(name) => tracing::debug!(?name, "a file whose name is no UTF-8 is not read"),
        }
    }
    Ok(found)
}

/// Links are not: what they lead to was complete before they were made to.
fn is_warm(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path)
        .ok()
        .filter(fs::Metadata::is_file)
        .and_then(|metadata| metadata.modified().ok());
    // A time in the future is another machine's clock and says nothing.
    modified.is_some_and(|modified| {
        SystemTime::now()
            .duration_since(modified)
            .is_ok_and(|age| age < WARM)
    })
}
