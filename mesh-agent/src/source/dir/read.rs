//! Reading files: one, or all of a directory on all processors.

use std::{
    fs::{self, File},
    io::{self, Read},
    ops::ControlFlow,
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

/// What a file says; None if there is no such file.
pub(super) fn one(
    directory: &Path,
    name: &str,
    options: &decode::Options,
    interner: &mut Interner,
) -> Option<Decoded> {
    match contents(&directory.join(name)) {
        Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => {
            Some(unreadable(name, "it is empty", "write it"))
        }
        Ok(bytes) => Some(decode(name, &bytes, options, interner)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(unreadable(
            name,
            error.to_string(),
            "make it a readable file; what it said before stays",
        )),
    }
}

fn contents(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe or a device in the directory must not hold up everything else.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size > MOST_BYTES {
        return Err(io::Error::other(format!(
            "its {} MiB are more than {} MiB",
            size >> 20,
            MOST_BYTES >> 20
        )));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(name: &str, reason: impl Into<String>, fix: &str) -> Decoded {
    Decoded {
        unreadable: true,
        problems: vec![Problem::of_file(name, reason, fix)],
        ..Decoded::default()
    }
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
