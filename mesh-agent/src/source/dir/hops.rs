//! The way from a path to what it names: at each symbolic link, and at the end, a name in a directory that decides
//! where it leads. Another file under one of these names is another file under the path.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs, io,
    path::{Component, Path, PathBuf},
};

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hop {
    pub(super) directory: PathBuf,
    pub(super) name: OsString,
}

/// The hops of a path, as far as there is something; the first name that is missing is the last hop.
pub(super) fn hops(path: &Path) -> io::Result<Vec<Hop>> {
    let absolute = std::path::absolute(path)?;
    let mut ahead = names(&absolute);
    let mut here = PathBuf::from("/");
    let mut hops = Vec::new();
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        let there = here.join(&name);
        let found = fs::symlink_metadata(&there);
        let is_link = found.as_ref().is_ok_and(fs::Metadata::is_symlink);
        if is_link || found.is_err() || ahead.is_empty() {
            let directory = here.clone();
            hops.push(Hop { directory, name });
        }
        if found.is_err() || hops.len() > MOST_LINKS {
            break;
        }
        if is_link {
            let target = fs::read_link(&there)?;
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            let mut way = names(&target);
            way.append(&mut ahead);
            ahead = way;
        } else {
            here = there;
        }
    }
    Ok(hops)
}

/// The names that a path goes through; `..` is one, since what it means depends on the links before it.
fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsStr::new("..").to_owned()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        })
        .collect()
}
