//! Reading files: one, or all of a directory on all processors.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read},
    ops::ControlFlow,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use super::super::{
    Problem,
    decode::{self, Decoded, Interner, decode},
};

/// A manifest of this size holds tens of thousands of objects; one larger is a mistake.
const MOST_BYTES: u64 = 32 << 20;

/// Why a file that is there cannot be read.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("it is empty")]
    Empty,
    #[error("it is no file")]
    NoFile,
    #[error("its {0} MiB are more than {most} MiB", most = MOST_BYTES >> 20)]
    Large(u64),
    #[error("it changed while it was read")]
    Torn,
    #[error("it is a link that leads nowhere")]
    Dangling,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Unreadable {
    const fn fix(&self) -> &'static str {
        match self {
            Self::Empty => "write it; what it said before stays",
            Self::NoFile => "make it a file, or give it another ending",
            Self::Large(_) => "split it; what it said before stays",
            Self::Torn => "nothing, it is read again; what it said before stays",
            Self::Dangling => "mend or remove the link; what it said before stays",
            Self::Io(_) => "make it readable; what it said before stays",
        }
    }
}

/// What a file says; None if there is no such file.
pub(super) fn one(
    directory: &Path,
    name: &str,
    options: &decode::Options,
    interner: &mut Interner,
) -> Option<Decoded> {
    let path = directory.join(name);
    let error = match contents(&path) {
        Ok(bytes) => return Some(decode(name, &bytes, options, interner)),
        Err(Unreadable::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            // Of a link the name is there all the same.
            fs::symlink_metadata(&path).ok()?;
            Unreadable::Dangling
        }
        Err(error) => error,
    };
    let problem = Problem::of_file(name, error.to_string(), error.fix());
    Some(Decoded::unreadable(problem))
}

fn contents(path: &Path) -> Result<Vec<u8>, Unreadable> {
    // A pipe in the directory must not hold up everything else: opening one waits for its other end.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let before = file.metadata()?;
    if !before.is_file() {
        return Err(Unreadable::NoFile);
    }
    if before.len() > MOST_BYTES {
        return Err(Unreadable::Large(before.len() >> 20));
    }
    let bytes = whole(&mut file, &before)?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Unreadable::Empty);
    }
    Ok(bytes)
}

/// The contents, if they are those of one moment.
fn whole(file: &mut File, before: &Metadata) -> Result<Vec<u8>, Unreadable> {
    let size = usize::try_from(before.len()).unwrap_or_default();
    let mut bytes = Vec::with_capacity(size);
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    let after = file.metadata()?;
    let written = |metadata: &Metadata| (metadata.mtime(), metadata.mtime_nsec(), metadata.len());
    if written(before) != written(&after) || bytes.len() != size {
        return Err(Unreadable::Torn);
    }
    Ok(bytes)
}

/// Reads all files, a thread for each processor, and hands them over as they are done. At most a few wait, so that
/// what was parsed is not all in memory at once.
pub(super) fn all(
    directory: &Path,
    names: &[String],
    options: &decode::Options,
    each: &mut dyn FnMut(&str, Decoded) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(names.len())
        .max(1);
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::sync_channel(threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                let mut interner = Interner::default();
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let decoded = one(directory, name, options, &mut interner);
                    if sender.send((name, decoded)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (name, decoded) in receiver {
            if let Some(decoded) = decoded {
                each(name, decoded)?;
            }
        }
        ControlFlow::Continue(())
    })
}
