//! One agent a run directory: who holds agent.lock may program the datapath. A second one waits for the first to go and
//! says so; the kernel lets go of the lock when its holder ends, however that happens.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::run_dir::{self, RunDirError};

/// Why the lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The directory is unfit.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The file is unfit.
    #[error("MESH113 {path:?}: {source}; run as root, or choose another directory with --run-dir")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

/// The lock file of a run directory.
#[must_use]
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join(super::run_dir::LOCK)
}

/// The process that holds the lock of a run directory; None if nobody does. Its pid is 0 if it has not yet said it.
pub fn holder(run_dir: &Path) -> Result<Option<u32>, LockError> {
    let path = path(run_dir);
    let file = match OpenOptions::new().read(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LockError::File { path, source }),
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(None),
        Err((file, Errno::EWOULDBLOCK)) => Ok(Some(pid(file))),
        Err((_, errno)) => Err(LockError::File {
            path,
            source: errno.into(),
        }),
    }
}

impl Lock {
    /// Takes the lock of a run directory, which is made if it is missing. While another process holds it, waits;
    /// `waiting` hears once of each holder's pid.
    pub fn acquire(run_dir: &Path, mut waiting: impl FnMut(u32)) -> Result<Self, LockError> {
        loop {
            run_dir::make(run_dir)?;
            let path = path(run_dir);
            let failed = |source| LockError::File {
                path: path.clone(),
                source,
            };
            let file = lock(open(&path).map_err(failed)?, &mut waiting)
                .map_err(|errno| failed(errno.into()))?;
            // A cleanup may have removed the file while we waited: then a third process can hold the new one.
            if is_same_file(&file, &path) {
                let mut lock = Self { file, path };
                lock.sign()?;
                return Ok(lock);
            }
        }
    }

    /// Writes our pid into the file, for those who wait.
    fn sign(&mut self) -> Result<(), LockError> {
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut self.file).map_err(|source| LockError::File {
            path: self.path.clone(),
            source,
        })
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn lock(file: File, waiting: &mut impl FnMut(u32)) -> Result<Flock<File>, Errno> {
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => return Ok(locked),
        Err((file, Errno::EWOULDBLOCK)) => file,
        Err((_, errno)) => return Err(errno),
    };
    if let Ok(clone) = file.try_clone() {
        waiting(pid(clone));
    }
    let mut file = file;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(locked) => return Ok(locked),
            Err((file, Errno::EINTR)) => file,
            Err((_, errno)) => return Err(errno),
        };
    }
}

/// The pid in the file, 0 while there is none.
fn pid(mut file: File) -> u32 {
    let mut text = String::new();
    match file
        .seek(SeekFrom::Start(0))
        .and_then(|_| file.read_to_string(&mut text))
    {
        Ok(_) => text.trim().parse().unwrap_or(0),
        Err(_) => 0,
    }
}

fn is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}
