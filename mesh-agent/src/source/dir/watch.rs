//! What happened in a directory, as inotify tells: hints, of which scans make the truth. Watched are the directory
//! itself and every directory in which a name decides where its path, or a link in it, leads.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};

use super::{
    hops::{Hop, hops},
    stamps::is_manifest,
};

/// What a wait ended with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// Some of it.
    Hints(Hints),
    /// Anything may have happened unseen.
    Anything,
    /// Time is up.
    Timeout,
    /// The source is to end.
    Stop,
}

/// What may have changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// These files were written, or moved in or out.
    pub(super) files: BTreeSet<String>,
    /// Links may lead elsewhere.
    pub(super) links: bool,
}

/// A directory that is watched.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    inotify: Inotify,
    stop: UnixStream,
    places: BTreeMap<WatchDescriptor, Place>,
}

/// What is of interest in a directory.
#[derive(Debug, Default)]
struct Place {
    path: PathBuf,
    /// Manifests: it is the directory itself.
    manifests: bool,
    /// Names that paths and links lead through.
    names: BTreeSet<OsString>,
}

const ARRIVED: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE.union(AddWatchFlags::IN_MOVED_TO);
const LEFT: AddWatchFlags = AddWatchFlags::IN_MOVED_FROM.union(AddWatchFlags::IN_DELETE);
/// The watch itself is over, or the directory is no longer where it was.
const OVER: AddWatchFlags = AddWatchFlags::IN_DELETE_SELF
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_IGNORED)
    .union(AddWatchFlags::IN_UNMOUNT);

impl Watch {
    pub(super) fn new(path: &Path, stop: UnixStream) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?,
            stop,
            places: BTreeMap::new(),
        })
    }

    /// Watches what the path and these files lead through now; whether it is another directory than before, in which
    /// things may have happened unseen.
    pub(super) fn arm<'a>(&mut self, files: impl Iterator<Item = &'a str>) -> io::Result<bool> {
        let mut places = BTreeMap::new();
        let flags = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
        for hop in hops(&self.path)? {
            self.follow(hop, flags, &mut places);
        }
        let flags = ARRIVED | LEFT | AddWatchFlags::IN_CREATE;
        let own = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let armed = self.inotify.add_watch(&self.path, mask(flags | own));
        if let Ok(descriptor) = armed {
            let place: &mut Place = places.entry(descriptor).or_default();
            place.path.clone_from(&self.path);
            place.manifests = true;
            for file in files.map(|file| self.path.join(file)) {
                let way = if file.is_symlink() {
                    hops(&file)?
                } else {
                    Vec::new()
                };
                for hop in way {
                    self.follow(hop, flags, &mut places);
                }
            }
        }
        let is_new = |descriptor| {
            let before = self.places.get(&descriptor);
            before.is_none_or(|place| !place.manifests)
        };
        let another = armed.map(is_new).map_err(io::Error::from);
        self.forget_all_but(places);
        another
    }

    /// A directory that cannot be watched is looked at by the rescans all the same.
    fn follow(
        &self,
        hop: Hop,
        flags: AddWatchFlags,
        places: &mut BTreeMap<WatchDescriptor, Place>,
    ) {
        match self.inotify.add_watch(&hop.directory, mask(flags)) {
            Ok(descriptor) => {
                let place = places.entry(descriptor).or_default();
                place.names.insert(hop.name);
                place.path = hop.directory;
            }
            Err(error) => tracing::debug!(%error, directory = ?hop.directory, "not watched"),
        }
    }

    fn forget_all_but(&mut self, places: BTreeMap<WatchDescriptor, Place>) {
        for descriptor in self.places.keys() {
            if !places.contains_key(descriptor)
                && let Err(error) = self.inotify.rm_watch(*descriptor)
            {
                tracing::debug!(%error, "the watch went with its directory");
            }
        }
        self.places = places;
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
            Err(Errno::EINTR) => return Ok(Woken::Hints(Hints::default())),
            Err(error) => return Err(error.into()),
            Ok(0) => return Ok(Woken::Timeout),
            Ok(_) => {}
        }
        if fds[1].any().unwrap_or(true) {
            return Ok(Woken::Stop);
        }
        match self.inotify.read_events() {
            Ok(events) => Ok(self.interpret(&events)),
            Err(Errno::EAGAIN) => Ok(Woken::Hints(Hints::default())),
            Err(error) => Err(error.into()),
        }
    }

    fn interpret(&self, events: &[InotifyEvent]) -> Woken {
        let mut hints = Hints::default();
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                return Woken::Anything;
            }
            // Events of watches that were given up come late.
            let Some(place) = self.places.get(&event.wd) else {
                continue;
            };
            match &event.name {
                None if event.mask.intersects(OVER) => return Woken::Anything,
                None => {}
                Some(name) if !place.is_complete(event.mask, name) => {}
                Some(name) => {
                    hints.links |= place.names.contains(name);
                    let name = name.to_str().filter(|name| is_manifest(name));
                    let files = &mut hints.files;
                    files.extend(name.filter(|_| place.manifests).map(str::to_owned));
                }
            }
        }
        Woken::Hints(hints)
    }
}

impl Place {
    /// A new file is read when its writer closes it; new links and directories, and second names of files, have no
    /// writer.
    fn is_complete(&self, mask: AddWatchFlags, name: &OsStr) -> bool {
        use std::os::unix::fs::MetadataExt;
        if mask.intersects(ARRIVED | LEFT | AddWatchFlags::IN_ISDIR) {
            return true;
        }
        std::fs::symlink_metadata(self.path.join(name))
            .is_ok_and(|metadata| !metadata.is_file() || metadata.nlink() > 1)
    }
}

/// Flags add up where one directory has several roles.
fn mask(flags: AddWatchFlags) -> AddWatchFlags {
    let add = AddWatchFlags::from_bits_retain(libc::IN_MASK_ADD);
    flags | AddWatchFlags::IN_ONLYDIR | add
}
