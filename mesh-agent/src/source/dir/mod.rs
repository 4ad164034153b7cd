//! The source `dir:PATH`: a directory of manifests. Watches it, reads what changed, tells what came of it.

mod read;
mod table;
mod watch;

use std::{
    io::{self, Write},
    ops::ControlFlow,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Batch, Problem, decode};
use crate::model::{Change, Kind};
use table::FileTable;
use watch::{Scan, Watch, Woken};

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
    table: FileTable,
    interner: decode::Interner,
    told: Vec<Problem>,
    /// What is wrong with the directory itself.
    trouble: Option<Problem>,
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
        let source = Self {
            path: path.to_owned(),
            options,
            watch: Watch::new(path, stopped).map_err(unwatchable)?,
            table: FileTable::default(),
            interner: decode::Interner::default(),
            told: Vec::new(),
            trouble: None,
        };
        Ok((source, Stop(stop)))
    }

    /// Reads everything, then what changes, until stopped or until the sink has enough.
    pub fn run(mut self, mut sink: impl FnMut(Batch) -> ControlFlow<()>) {
        if self.first(&mut sink).is_break() {
            return;
        }
        let mut rescan = Instant::now() + RESCAN;
        loop {
            let until = self
                .table
                .deadline()
                .map_or(rescan, |deadline| deadline.min(rescan));
            let woken = self.watch.wait(until).unwrap_or_else(|error| {
                tracing::warn!(%error, "inotify failed: looking at every file instead");
                std::thread::sleep(RESCAN);
                Woken::Anything
            });
            let received = Instant::now();
            let mut changes = match woken {
                Woken::Stop => return,
                Woken::Files(files) => self.take(files, received),
                Woken::Anything => self.scan(received),
                Woken::Timeout if received >= rescan => {
                    rescan = received + RESCAN;
                    self.scan(received)
                }
                Woken::Timeout => Vec::new(),
            };
            changes.extend(self.table.settle(Instant::now()));
            if self.tell(changes, received, &mut sink).is_break() {
                return;
            }
        }
    }

    /// The first full list of every kind, file by file.
    fn first(&mut self, sink: &mut impl FnMut(Batch) -> ControlFlow<()>) -> ControlFlow<()> {
        let received = Instant::now();
        let scan = self.look();
        let (path, options) = (self.path.clone(), self.options.clone());
        read::all(&path, &scan.changed, &options, &mut |name, decoded| {
            let changes = self.table.put(name, decoded, received);
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
    fn look(&mut self) -> Scan {
        match self.watch.scan() {
            Ok(scan) => {
                self.trouble = None;
                scan
            }
            Err(error) => {
                let fix = "make the directory anew; what its files said before stays in force";
                self.trouble = Some(Problem::of_file(
                    &self.path.display().to_string(),
                    error.to_string(),
                    fix,
                ));
                Scan::default()
            }
        }
    }

    fn scan(&mut self, now: Instant) -> Vec<Change> {
        let scan = self.look();
        let mut changes: Vec<Change> = scan
            .gone
            .iter()
            .flat_map(|name| self.table.remove(name, now))
            .collect();
        for name in &scan.changed {
            changes.extend(self.read(name, now));
        }
        changes
    }

    fn take(&mut self, files: impl IntoIterator<Item = String>, now: Instant) -> Vec<Change> {
        files
            .into_iter()
            .flat_map(|name| {
                self.watch.stamp(&name);
                self.read(&name, now)
            })
            .collect()
    }

    fn read(&mut self, name: &str, now: Instant) -> Vec<Change> {
        match read::one(&self.path, name, &self.options, &mut self.interner) {
            Some(decoded) => {
                tracing::debug!(file = name, objects = decoded.objects.len(), "read");
                self.table.put(name, decoded, now)
            }
            None => {
                tracing::debug!(file = name, "gone");
                self.table.remove(name, now)
            }
        }
    }

    /// Tells what changed, if anything did.
    fn tell(
        &mut self,
        changes: Vec<Change>,
        received: Instant,
        sink: &mut impl FnMut(Batch) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
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
