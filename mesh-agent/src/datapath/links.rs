//! Attaching: one pinned link a hook, whose program is replaced at one instant.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use super::{
    DatapathError,
    hooks::Hook,
    pins::{self, Pins},
    sys,
};

/// The kernel's number for links of cgroup programs.
const BPF_LINK_TYPE_CGROUP: u32 = 3;

/// The cgroup that programs are attached to.
#[derive(Debug)]
pub(super) struct Cgroup {
    directory: File,
    path: PathBuf,
    /// Its number in links: the inode of its directory.
    id: u64,
}

impl Cgroup {
    pub(super) fn open(path: &Path) -> Result<Self, DatapathError> {
        let failed = |error| DatapathError::path("cannot open the cgroup", path)(error);
        let directory = File::open(path).map_err(failed)?;
        let id = directory.metadata().map_err(failed)?.ino();
        Ok(Self {
            directory,
            path: path.to_owned(),
            id,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// What was done at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attached {
    /// The link of an earlier run has the new program.
    Replaced,
    /// A new link was made; one to another cgroup was dropped after.
    Anew,
}

/// Puts a program in force at its hook.
pub(super) fn attach(
    pins: &Pins,
    hook: &Hook,
    program: BorrowedFd<'_>,
    cgroup: &Cgroup,
) -> Result<Attached, DatapathError> {
    let pin = pins.link(hook);
    if let Some(link) = pinned(&pin, hook, cgroup)
        && sys::link_update(link.as_fd(), program).is_ok()
    {
        return Ok(Attached::Replaced);
    }
    let link = sys::link_create(program, cgroup.fd(), hook.attach_type).map_err(|source| {
        DatapathError::Attach {
            hook: hook.name,
            cgroup: cgroup.path.clone(),
            source,
        }
    })?;
    let temporary = pins::temporary(&pin);
    sys::object_pin(link.as_fd(), &temporary)
        .map_err(DatapathError::path("cannot pin", &temporary))?;
    pins::replace(&temporary, &pin)?;
    Ok(Attached::Anew)
}

/// Takes what is attached at a hook off it: a link goes with its pin.
pub(super) fn detach(pins: &Pins, hook: &Hook) -> Result<(), DatapathError> {
    pins::remove(&pins.link(hook))
}

/// Whether anything is pinned for a hook.
pub(super) fn is_attached(pins: &Pins, hook: &Hook) -> bool {
    pins.link(hook).exists()
}

/// The pinned link, if it is one of this hook and cgroup. One whose cgroup is gone has no cgroup number.
fn pinned(pin: &Path, hook: &Hook, cgroup: &Cgroup) -> Option<OwnedFd> {
    let link = sys::object_get(pin).ok()?;
    let info = sys::link_info(link.as_fd()).ok()?;
    let same = info.kind == BPF_LINK_TYPE_CGROUP
        && info.cgroup == cgroup.id
        && info.attach_type == hook.attach_type;
    same.then_some(link)
}

/// The program that a pinned link has in force; None without a link. Only CAP_SYS_ADMIN opens a program by its id: its
/// pin is asked for as well.
pub(super) fn program_in_force(pins: &Pins, hook: &Hook) -> Option<sys::ProgramInfo> {
    let link = sys::object_get(&pins.link(hook)).ok()?;
    let info = sys::link_info(link.as_fd()).ok()?;
    if info.kind != BPF_LINK_TYPE_CGROUP || info.cgroup == 0 {
        return None;
    }
    let program =
        sys::program_by_id(info.program).or_else(|_| sys::object_get(&pins.program(hook)));
    let program = sys::program_info(program.ok()?.as_fd()).ok()?;
    (program.id == info.program).then_some(program)
}

/// Pins a program, so that its figures can be read by its name; the link holds it by itself.
pub(super) fn pin_program(
    pins: &Pins,
    hook: &Hook,
    program: BorrowedFd<'_>,
) -> Result<(), DatapathError> {
    let pin = pins.program(hook);
    let temporary = pins::temporary(&pin);
    sys::object_pin(program, &temporary).map_err(DatapathError::path("cannot pin", &temporary))?;
    pins::replace(&temporary, &pin)
}

/// A program of somebody else's.
pub(super) struct Other {
    /// The kernel's number.
    pub(super) id: u32,
    /// Its name; without CAP_SYS_ADMIN the kernel does not tell.
    pub(super) name: Option<String>,
}

/// Programs of others that are attached to the cgroup itself. `ours` are ids.
pub(super) fn others(cgroup: &Cgroup, hook: &Hook, ours: &[u32]) -> io::Result<Vec<Other>> {
    let ids = sys::attached_programs(cgroup.fd(), hook.attach_type)?;
    let foreign = ids.into_iter().filter(|id| !ours.contains(id));
    foreign
        .map(|id| {
            Ok(Other {
                id,
                name: name(id)?,
            })
        })
        .collect()
}

fn name(id: u32) -> io::Result<Option<String>> {
    match sys::program_by_id(id) {
        Ok(program) => Ok(Some(sys::program_info(program.as_fd())?.name)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}
