//! One agent per run dir: an advisory lock on RUN_DIR/agent.lock that goes with the process, however it ends. A second
//! agent waits for the first to go.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// Why the lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The directory or the file cannot be made.
    #[error("MESH032: cannot use {path}: {source}. Give a writable directory by --run-dir")]
    Unusable {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else could write into it.
    #[error(
        "MESH033: {path} belongs to user {uid} and not to this one. Remove it or give another --run-dir"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
}

/// The lock, held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock; waits while another process holds it, after telling `waiting` who that is.
    ///
    /// # Errors
    /// The run dir cannot be used.
    pub fn acquire(run_dir: &Path, waiting: impl FnOnce(&str)) -> Result<Self, LockError> {
        make_directory(run_dir)?;
        let path = run_dir.join("agent.lock");
        let unusable = |source: io::Error| LockError::Unusable {
            path: path.clone(),
            source,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(unusable)?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                waiting(&holder(&mut file));
                Flock::lock(file, FlockArg::LockExclusive)
                    .map_err(|(_, error)| unusable(error.into()))?
            }
            Err((_, error)) => return Err(unusable(error.into())),
        };
        write_holder(&mut lock).map_err(unusable)?;
        Ok(Self { _file: lock })
    }

    /// Whether somebody holds the lock, and who.
    #[must_use]
    pub fn holder(run_dir: &Path) -> Option<String> {
        let mut file = File::open(run_dir.join("agent.lock")).ok()?;
        let who = holder(&mut file);
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(_) => None,
            Err(_) => Some(who),
        }
    }
}

/// Makes the run dir with mode 0700, and trusts an old one only if it is this user's.
fn make_directory(path: &Path) -> Result<(), LockError> {
    let unusable = |source| LockError::Unusable {
        path: path.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(unusable)?;
    let uid = fs::metadata(path).map_err(unusable)?.uid();
    if uid != nix::unistd::geteuid().as_raw() {
        return Err(LockError::Foreign {
            path: path.to_owned(),
            uid,
        });
    }
    let private = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
    fs::set_permissions(path, private).map_err(unusable)
}

fn holder(file: &mut File) -> String {
    let mut pid = String::new();
    match file.read_to_string(&mut pid) {
        Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
        Ok(_) | Err(_) => "another process".to_owned(),
    }
}

fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_second_waits_for_the_first_and_says_for_whom() {
        let directory =
            std::env::temp_dir().join(format!("mesh-agent-lock-{}", std::process::id()));
        let first = Lock::acquire(&directory, |_| panic!("nobody holds it")).unwrap();
        assert!(Lock::holder(&directory).is_some());
        let (sender, receiver) = mpsc::channel();
        let second = std::thread::spawn({
            let directory = directory.clone();
            move || Lock::acquire(&directory, |who| sender.send(who.to_owned()).unwrap()).map(drop)
        });
        assert_eq!(
            receiver.recv().unwrap(),
            format!("process {}", std::process::id())
        );
        drop(first);
        second.join().unwrap().unwrap();
        assert!(Lock::holder(&directory).is_none());
        fs::remove_dir_all(directory).unwrap();
    }
}
