//! Where things are pinned, and whether what is pinned there is what it should be.
//!
//! Under `--bpffs`, mode 0700: `NAME_vN` for maps, `links/HOOK`, `programs/HOOK`. What is made but not yet in force has
//! `.new-PID` behind its name; a start sweeps those of earlier processes.

use std::{
    fs::{self, DirBuilder},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use mesh_common::{MapKind, MapShape, MapSpec};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{
    DatapathError,
    sys::{self, MapInfo},
};

/// BPF_F_MMAPABLE
const MMAPABLE: u32 = 1 << 10;

/// What is found where a map would be pinned.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing.
    Absent,
    /// The map, in the shape it should have.
    Fits(MapInfo, OwnedFd),
    /// Something of another shape, which is never read: what differs.
    Differs(String),
}

/// The directory of one agent's pins.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
}

impl Pins {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn map(&self, spec: &MapSpec) -> PathBuf {
        self.root.join(format!("{}_v{}", spec.name, spec.version))
    }

    pub(super) fn link(&self, hook: &str) -> PathBuf {
        self.root.join("links").join(hook)
    }

    pub(super) fn program(&self, hook: &str) -> PathBuf {
        self.root.join("programs").join(hook)
    }

    /// Makes the directories, and trusts old ones only if nobody else can write into them.
    pub(super) fn prepare(&self) -> Result<(), DatapathError> {
        mount_bpffs(&self.root);
        for path in [
            self.root.clone(),
            self.root.join("links"),
            self.root.join("programs"),
        ] {
            let failed = |source| DatapathError::Directory {
                path: path.clone(),
                source,
            };
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(failed)?;
            ensure_private(&path)?;
        }
        let kind = statfs(&self.root).map_err(|error| DatapathError::Directory {
            path: self.root.clone(),
            source: error.into(),
        })?;
        if kind.filesystem_type() != BPF_FS_MAGIC {
            return Err(DatapathError::NotBpffs {
                path: self.root.clone(),
            });
        }
        self.sweep()
    }

    /// Removes what earlier processes made and did not put in force.
    fn sweep(&self) -> Result<(), DatapathError> {
        for directory in [
            self.root.clone(),
            self.root.join("links"),
            self.root.join("programs"),
        ] {
            for path in entries(&directory) {
                if path.to_string_lossy().contains(".new-") {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Pins of maps that are none of these: other versions of ours.
    pub(super) fn other_maps(&self, keep: &[PathBuf]) -> Vec<PathBuf> {
        let ours = |path: &PathBuf| path.is_file() && !keep.contains(path);
        entries(&self.root).into_iter().filter(ours).collect()
    }

    /// Whether the map is pinned in the shape this version reads, whatever its size.
    pub(super) fn fits(&self, spec: &MapSpec) -> Result<bool, DatapathError> {
        let size_does_not_matter = MapSpec {
            kind: MapKind::Flow,
            ..*spec
        };
        Ok(matches!(
            self.find(&size_does_not_matter, 0)?,
            Found::Fits(..)
        ))
    }

    /// Looks at the pin of a map before anything reads it.
    pub(super) fn find(&self, spec: &MapSpec, entries: u32) -> Result<Found, DatapathError> {
        let path = self.map(spec);
        if !path.exists() {
            return Ok(Found::Absent);
        }
        let failed = |source| DatapathError::Pin {
            action: "open the pin",
            path: path.clone(),
            source,
        };
        let fd = match sys::object_get(&path) {
            Ok(fd) => fd,
            // Something else than a map is there.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                return Ok(Found::Differs("no map".to_owned()));
            }
            Err(error) => return Err(failed(error)),
        };
        let info = sys::map_info(fd.as_fd()).map_err(failed)?;
        Ok(match difference(spec, entries, &info) {
            Some(difference) => Found::Differs(difference),
            None => Found::Fits(info, fd),
        })
    }
}

/// The name under which something is made before it is put in force.
pub(super) fn fresh(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    name.into()
}

/// Puts in force what was made under a fresh name; what was there before is unpinned at the same instant.
pub(super) fn put_in_force(path: &Path) -> Result<(), DatapathError> {
    fs::rename(fresh(path), path).map_err(|source| DatapathError::Pin {
        action: "put in place",
        path: path.to_owned(),
        source,
    })
}

pub(super) fn remove(path: &Path) -> Result<(), DatapathError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(DatapathError::Pin {
            action: "remove",
            path: path.to_owned(),
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The paths in a directory, in order; none if it cannot be read.
pub(super) fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(read) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = read.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// What of a map is not as it should be. The size of a flow map may differ: its contents are worth more.
fn difference(spec: &MapSpec, entries: u32, info: &MapInfo) -> Option<String> {
    let (kind, flags) = kernel_shape(spec.shape);
    let sized = [
        ("type", kind, info.kind),
        ("key size", length(spec.key.size), info.key_size),
        ("value size", length(spec.value.size), info.value_size),
        ("flags", flags, info.flags & !NUMA_AND_ACCESS),
    ];
    let entries = [("entries", entries, info.max_entries)];
    let looked_at = sized
        .iter()
        .chain(entries.iter().filter(|_| spec.kind == MapKind::Derived));
    let differs = looked_at.filter(|(_, wanted, found)| wanted != found);
    let words: Vec<String> = differs
        .map(|(what, wanted, found)| format!("{what} {found} instead of {wanted}"))
        .collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Flags that say nothing of the layout.
const NUMA_AND_ACCESS: u32 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 8;

/// BPF_MAP_TYPE and the flags of the definition.
fn kernel_shape(shape: MapShape) -> (u32, u32) {
    match shape {
        MapShape::Hash => (1, 0),
        MapShape::MappedArray => (2, MMAPABLE),
        MapShape::PerCpuArray => (6, 0),
        MapShape::LruHash => (9, 0),
    }
}

fn length(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn ensure_private(path: &Path) -> Result<(), DatapathError> {
    let failed = |source| DatapathError::Directory {
        path: path.to_owned(),
        source,
    };
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    let foreign = |what: String| {
        Err(DatapathError::Foreign {
            path: path.to_owned(),
            what,
        })
    };
    if !metadata.is_dir() {
        return foreign("it is no directory".to_owned());
    }
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return foreign(format!("it belongs to user {}", metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return foreign(format!("its mode is {:o}", metadata.mode() & 0o7777));
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// bpffs is not always mounted: mounts it at its usual place when that is where the pins will be.
fn mount_bpffs(root: &Path) {
    let place = Path::new("/sys/fs/bpf");
    let mounted = statfs(place).is_ok_and(|kind| kind.filesystem_type() == BPF_FS_MAGIC);
    if mounted || !root.starts_with(place) {
        return;
    }
    let flags = nix::mount::MsFlags::MS_NOSUID
        | nix::mount::MsFlags::MS_NODEV
        | nix::mount::MsFlags::MS_NOEXEC;
    match nix::mount::mount(Some("bpf"), place, Some("bpf"), flags, Some("mode=0700")) {
        Ok(()) => tracing::info!("mounted a bpffs at /sys/fs/bpf"),
        // What is missing is said by whoever needs it.
        Err(error) => {
            tracing::warn!(%error, "no bpffs is mounted at /sys/fs/bpf, and it cannot be mounted")
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_common::MAPS;

    use super::*;

    fn info(spec: &MapSpec, entries: u32) -> MapInfo {
        let (kind, flags) = kernel_shape(spec.shape);
        MapInfo {
            kind,
            id: 7,
            key_size: length(spec.key.size),
            value_size: length(spec.value.size),
            max_entries: entries,
            flags,
        }
    }

    #[test]
    fn each_part_of_a_shape_counts() {
        for spec in &MAPS {
            let fits = info(spec, 100);
            assert_eq!(difference(spec, 100, &fits), None);
            for wrong in [
                MapInfo { kind: 14, ..fits },
                MapInfo {
                    key_size: 3,
                    ..fits
                },
                MapInfo {
                    value_size: 3,
                    ..fits
                },
                MapInfo {
                    flags: 1 << 10 ^ fits.flags,
                    ..fits
                },
            ] {
                assert!(difference(spec, 100, &wrong).is_some(), "{}", spec.name);
            }
            assert_eq!(
                difference(spec, 200, &fits).is_some(),
                spec.kind == MapKind::Derived,
                "{}",
                spec.name
            );
        }
    }
}
