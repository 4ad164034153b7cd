//! The source `dir:PATH`: a directory of manifests. Watches it, reads what changed, tells what came of it.

mod hops;
mod read;
mod stamps;
mod table;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    collections::BTreeSet,
    io::{self, Write},
    ops::ControlFlow,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    Batch, Moment, Problem,
    decode::{self, Decoded},
};
use crate::model::{Change, Kind};
use stamps::{Scan, Stamps};
use table::FileTable;
use watch::{Hints, Watch, Woken};

/// How often every file is looked at, whatever inotify said: some file systems tell it nothing.
const RESCAN: Duration = Duration::from_secs(2);

/// Why the directory cannot be a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be watched.
    #[error(
        "MESH050: cannot watch the directory {path} (--source dir:PATH): {source}. Make it, or name another"
    )]
    Unwatchable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The source.
#[derive(Debug)]
pub struct DirSource {
    path: PathBuf,
    options: decode::Options,
    watch: Watch,
    stamps: Stamps,
    table: FileTable,
    interner: decode::Interner,
    told: Vec<Problem>,
    /// What is wrong with the directory itself.
    trouble: Option<Problem>,
    /// It took the place of another, and no manifest has been seen in it yet.
    fresh: bool,
    /// Kinds that are not used, each told once.
    unused: BTreeSet<String>,
}

/// Ends the source from another thread.
#[derive(Debug)]
pub struct Stop(UnixStream);

impl Stop {
    /// The source's `run` returns soon.
    pub fn stop(&mut self) {
        // It fails only when the source has ended already.
        if let Err(error) = self.0.write_all(b"x") {
            tracing::debug!(%error, "the source has ended already");
        }
    }
}

impl DirSource {
    /// Watches a directory; nothing is read yet.
    ///
    /// # Errors
    /// It is not there or cannot be watched.
    pub fn open(path: &Path, options: decode::Options) -> Result<(Self, Stop), SourceError> {
        let unwatchable = |source| SourceError::Unwatchable {
            path: path.to_owned(),
            source,
        };
        let (stop, stopped) = UnixStream::pair().map_err(unwatchable)?;
        let mut watch = Watch::new(path, stopped).map_err(unwatchable)?;
        watch.arm(std::iter::empty()).map_err(unwatchable)?;
        let source = Self {
            path: path.to_owned(),
            options,
            watch,
            stamps: Stamps::default(),
            table: FileTable::default(),
            interner: decode::Interner::default(),
            told: Vec::new(),
            trouble: None,
            fresh: false,
            unused: BTreeSet::new(),
        };
        Ok((source, Stop(stop)))
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads everything, then what changes, until stopped or until the sink has enough.
    pub fn run(mut self, mut sink: impl FnMut(Batch) -> ControlFlow<()>) {
        if self.first(&mut sink).is_break() {
            return;
        }
        let mut rescan = Instant::now() + RESCAN;
        loop {
            let deadline = self.table.deadline();
            let until = deadline.map_or(rescan, |deadline| deadline.min(rescan));
            let woken = self.wait(until);
            let received = Moment::now();
            let mut changes = match woken {
                Woken::Stop => return,
                Woken::Hints(hints) => self.take(hints, received.at),
                Woken::Anything => self.scan(false, received.at),
                Woken::Timeout => Vec::new(),
            };
            if received.at >= rescan {
                rescan = received.at + RESCAN;
                changes.extend(self.scan(true, received.at));
            }
            changes.extend(self.table.settle(Instant::now()));
            if self.tell(changes, received, &mut sink).is_break() {
                return;
            }
        }
    }

    fn wait(&mut self, until: Instant) -> Woken {
        self.watch.wait(until).unwrap_or_else(|error| {
            tracing::warn!(%error, "inotify failed: looking at every file instead");
            std::thread::sleep(RESCAN);
            Woken::Anything
        })
    }

    /// The first full list of every kind, file by file. A directory that cannot be read has no list, and is not empty:
    /// what others were told to delete would be in use.
    fn first(&mut self, sink: &mut impl FnMut(Batch) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut received = Moment::now();
        let mut scan = self.look(false);
        while self.trouble.is_some() {
            self.tell(Vec::new(), received, sink)?;
            if self.wait(received.at + RESCAN) == Woken::Stop {
                return ControlFlow::Break(());
            }
            received = Moment::now();
            scan = self.look(false);
        }
        let (path, options) = (self.path.clone(), self.options.clone());
        read::all(&path, &scan.changed, &options, &mut |name, decoded| {
            self.note_unused(&decoded);
            let changes = self.table.put(name, decoded, received.at);
            sink(Batch {
                changes,
                problems: None,
                received,
            })
        })?;
        let synced = Kind::ALL.into_iter().map(Change::Synced).collect();
        self.tell(synced, received, sink)
    }

    /// A scan; a directory that cannot be read is a problem, and nothing else changes.
    fn look(&mut self, wait_for_writers: bool) -> Scan {
        let result = self.watch.arm(self.stamps.names()).and_then(|another| {
            self.fresh |= another;
            if self.fresh && self.stamps.would_lose_all(&self.path)? {
                return Err(io::Error::other("it was replaced by one without manifests"));
            }
            self.fresh = false;
            // What was written before the watch began had no event.
            let wait_for_writers = wait_for_writers && !another;
            let scan = self.stamps.scan(&self.path, wait_for_writers)?;
            if !scan.changed.is_empty() {
                self.watch.arm(self.stamps.names())?;
            }
            Ok(scan)
        });
        let fix = "fill the directory anew; what its files said before stays in force";
        let path = self.path.display();
        let problem =
            |error: &io::Error| Problem::of_file(&path.to_string(), error.to_string(), fix);
        self.trouble = result.as_ref().err().map(problem);
        result.unwrap_or_default()
    }

    fn scan(&mut self, wait_for_writers: bool, now: Instant) -> Vec<Change> {
        let scan = self.look(wait_for_writers);
        let mut changes: Vec<Change> = scan
            .gone
            .iter()
            .flat_map(|name| self.read(name, now))
            .collect();
        for name in &scan.changed {
            changes.extend(self.read(name, now));
        }
        changes
    }

    /// Files that are told to have changed. Those that left come first: they may be back under another name.
    fn take(&mut self, hints: Hints, now: Instant) -> Vec<Change> {
        let (here, gone): (Vec<String>, Vec<String>) = hints
            .files
            .into_iter()
            .partition(|name| self.path.join(name).symlink_metadata().is_ok());
        let mut changes = Vec::new();
        for name in gone.iter().chain(&here) {
            self.stamps.note(&self.path, name);
            changes.extend(self.read(name, now));
        }
        let is_link = |name: &String| self.path.join(name).is_symlink();
        if hints.links || here.iter().any(is_link) {
            // Where new links lead has to be watched too, and may have changed before it was.
            changes.extend(self.scan(true, now));
        }
        changes
    }

    fn read(&mut self, name: &str, now: Instant) -> Vec<Change> {
        match read::one(&self.path, name, &self.options, &mut self.interner) {
            Some(decoded) => {
                tracing::debug!(file = name, objects = decoded.objects.len(), "read");
                self.note_unused(&decoded);
                self.table.put(name, decoded, now)
            }
            None => {
                tracing::info!(
                    file = name,
                    "the file is gone, and what it said soon will be"
                );
                self.table.remove(name, now)
            }
        }
    }

    fn note_unused(&mut self, decoded: &Decoded) {
        for kind in &decoded.unused {
            if self.unused.insert(kind.clone()) {
                tracing::info!(kind, "objects of this kind are not used");
            }
        }
    }

    /// Tells what changed, if anything did.
    fn tell(
        &mut self,
        mut changes: Vec<Change>,
        received: Moment,
        sink: &mut impl FnMut(Batch) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        changes.extend(self.table.completeness());
        let mut problems = self.table.problems();
        problems.extend(self.trouble.clone());
        let problems = (problems != self.told).then(|| {
            self.told.clone_from(&problems);
            problems
        });
        if changes.is_empty() && problems.is_none() {
            return ControlFlow::Continue(());
        }
        sink(Batch {
            changes,
            problems,
            received,
        })
    }
}
