//! The hooks, and putting programs in force on them: link by link, in the order that never leaves a socket that was
//! translated without its way back.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use super::{DatapathError, pins, pins::Pins, sys};

/// A hook of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Name of the program and of its pins.
    pub name: &'static str,
    /// The kernel's attach type (enum bpf_attach_type).
    pub attach_type: u32,
}

/// All hooks in the order in which programs are put in force: readers first, then who makes what they read. They are
/// taken off in the reverse order.
pub const HOOKS: [Hook; 9] = [
    Hook {
        name: "recvmsg4",
        attach_type: 19,
    },
    Hook {
        name: "recvmsg6",
        attach_type: 20,
    },
    Hook {
        name: "getpeername4",
        attach_type: 29,
    },
    Hook {
        name: "getpeername6",
        attach_type: 30,
    },
    Hook {
        name: "sock_release",
        attach_type: 34,
    },
    Hook {
        name: "sendmsg4",
        attach_type: 14,
    },
    Hook {
        name: "sendmsg6",
        attach_type: 15,
    },
    Hook {
        name: "connect4",
        attach_type: 10,
    },
    Hook {
        name: "connect6",
        attach_type: 11,
    },
];

/// A cgroup2 directory, and the id by which the kernel's links name it.
#[derive(Debug)]
pub(super) struct Cgroup {
    directory: File,
    id: u64,
}

impl Cgroup {
    pub(super) fn open(path: &Path) -> Result<Self, DatapathError> {
        let failed = |source| DatapathError::Cgroup {
            path: path.to_owned(),
            source,
        };
        let directory = File::open(path).map_err(failed)?;
        // kernfs gives out ids that are the inode's number (64 bit kernels).
        let id = directory.metadata().map_err(failed)?.ino();
        Ok(Self { directory, id })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Puts a program in force on its hook: into the link that is pinned there, if it is of this cgroup; else by a link of
/// its own, which then takes the pin's place, and with it the old link goes. There is no instant with neither.
pub(super) fn attach(
    hook: Hook,
    program: BorrowedFd<'_>,
    cgroup: &Cgroup,
    pins: &Pins,
) -> Result<(), DatapathError> {
    let path = pins.link(hook.name);
    if replace(&path, program, hook, cgroup) {
        return Ok(());
    }
    let failed = |action| {
        let path = path.clone();
        move |source: io::Error| DatapathError::Pin {
            action,
            path,
            source,
        }
    };
    let link =
        sys::link_create(program, cgroup.fd(), hook.attach_type).map_err(failed("attach"))?;
    sys::object_pin(link.as_fd(), &pins::fresh(&path)).map_err(failed("pin the link"))?;
    pins::put_in_force(&path)
}

/// Whether the pinned link now has this program.
fn replace(path: &Path, program: BorrowedFd<'_>, hook: Hook, cgroup: &Cgroup) -> bool {
    let Ok(link) = sys::object_get(path) else {
        return false;
    };
    let fits = sys::link_info(link.as_fd())
        .is_ok_and(|info| info.cgroup == cgroup.id && info.attach_type == hook.attach_type);
    if !fits {
        return false;
    }
    match sys::link_update(link.as_fd(), program) {
        Ok(()) => true,
        Err(error) => {
            // A link whose cgroup was removed is dead, though the pin is still there.
            tracing::debug!(hook = hook.name, %error, "the pinned link cannot be updated, a new one is made");
            false
        }
    }
}

/// Whether the link that is pinned for a hook is of this cgroup.
pub(super) fn is_attached(hook: Hook, cgroup: &Cgroup, pins: &Pins) -> bool {
    let info = sys::object_get(&pins.link(hook.name)).and_then(|link| sys::link_info(link.as_fd()));
    info.is_ok_and(|info| info.cgroup == cgroup.id && info.program != 0)
}
