//! What happened in a directory: inotify as hints, stat as the truth.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs, io,
    os::{
        fd::AsFd,
        unix::{fs::MetadataExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent},
};

/// Files that cannot have changed since, as far as stat can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What a wait ended with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// These files were written or moved in or out.
    Files(BTreeSet<String>),
    /// Anything may have changed.
    Anything,
    /// Time is up.
    Timeout,
    /// The source is to end.
    Stop,
}

/// What a scan found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// New files, and those that changed.
    pub(super) changed: Vec<String>,
    /// Files that are gone.
    pub(super) gone: Vec<String>,
}

/// A directory that is watched.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    inotify: Inotify,
    stop: UnixStream,
    stamps: BTreeMap<String, Stamp>,
    /// Inode of the directory that the watch is on.
    armed: Option<u64>,
}

/// Whether a file of this name is a manifest.
pub(super) fn is_manifest(name: &str) -> bool {
    !name.starts_with('.')
        && [".yaml", ".yml", ".json"]
            .iter()
            .any(|ending| name.ends_with(ending))
}

impl Watch {
    pub(super) fn new(path: &Path, stop: UnixStream) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let mut watch = Self {
            path: path.to_owned(),
            inotify,
            stop,
            stamps: BTreeMap::new(),
            armed: None,
        };
        watch.arm()?;
        Ok(watch)
    }

    /// Watches the directory that is at the path now, and its parent, which tells when another takes its place.
    fn arm(&mut self) -> io::Result<()> {
        let inode = fs::metadata(&self.path)?.ino();
        if self.armed == Some(inode) {
            return Ok(());
        }
        let directory = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        self.inotify.add_watch(&self.path, directory)?;
        if let Some(parent) = self.path.canonicalize()?.parent() {
            let parent_flags =
                AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ONLYDIR;
            self.inotify.add_watch(parent, parent_flags)?;
        }
        self.armed = Some(inode);
        Ok(())
    }

    /// Waits for something to happen, at most until then.
    pub(super) fn wait(&mut self, until: Instant) -> io::Result<Woken> {
        let pause = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
        let mut fds = [
            PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => return Ok(Woken::Files(BTreeSet::new())),
            Err(error) => return Err(error.into()),
            Ok(0) => return Ok(Woken::Timeout),
            Ok(_) => {}
        }
        if fds[1].any().unwrap_or(true) {
            return Ok(Woken::Stop);
        }
        match self.inotify.read_events() {
            Ok(events) => Ok(self.interpret(&events)),
            Err(Errno::EAGAIN) => Ok(Woken::Files(BTreeSet::new())),
            Err(error) => Err(error.into()),
        }
    }

    fn interpret(&self, events: &[InotifyEvent]) -> Woken {
        let mut files = BTreeSet::new();
        let own_name = self.path.file_name();
        for event in events {
            let name = event
                .name
                .as_deref()
                .and_then(OsStr::to_str)
                .unwrap_or_default();
            let written = AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_MOVED_FROM
                | AddWatchFlags::IN_DELETE;
            if is_manifest(name) {
                // A new file is read when its writer closes it; a new link has no writer.
                let is_link = event.mask.contains(AddWatchFlags::IN_CREATE)
                    && self.path.join(name).is_symlink();
                if event.mask.intersects(written) || is_link {
                    files.insert(name.to_owned());
                }
                continue;
            }
            let of_parent = event.name.as_deref() == own_name;
            // A name that begins with two dots is a ConfigMap's link or directory. No name: the directory itself.
            if name.starts_with("..") || of_parent || event.name.is_none() {
                return Woken::Anything;
            }
        }
        Woken::Files(files)
    }

    /// Looks at every file. Only stat is called, so this may be done often.
    pub(super) fn scan(&mut self) -> io::Result<Scan> {
        self.arm()?;
        let mut found = BTreeSet::new();
        let mut scan = Scan::default();
        for entry in fs::read_dir(&self.path)? {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            if is_manifest(&name) {
                found.insert(name);
            }
        }
        for name in &found {
            if self.stamp(name) {
                scan.changed.push(name.clone());
            }
        }
        let gone = self
            .stamps
            .keys()
            .filter(|name| !found.contains(*name))
            .cloned();
        scan.gone = gone.collect();
        for name in &scan.gone {
            self.stamps.remove(name);
        }
        Ok(scan)
    }

    /// Notes a file's stamp; whether it is another than before.
    pub(super) fn stamp(&mut self, name: &str) -> bool {
        let stamp = fs::metadata(self.path.join(name))
            .ok()
            .filter(fs::Metadata::is_file)
            .map(|metadata| Stamp {
                device: metadata.dev(),
                inode: metadata.ino(),
                size: metadata.size(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            });
        match stamp {
            Some(stamp) => self.stamps.insert(name.to_owned(), stamp) != Some(stamp),
            None => self.stamps.remove(name).is_some(),
        }
    }
}
