//! The admin socket: made so that there is no instant at which it is open to others, and only root's processes are
//! heard on it.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
};

/// Listens at the path, mode 0600. Whoever holds the run directory's lock owns the name: what a killed agent left there
/// is replaced, in one step.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    let fresh = path.with_extension("sock.new");
    remove(&fresh)?;
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    fs::rename(&fresh, path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Removes the socket; that it is gone already is fine.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether a process of this user may ask: root's, and those of the agent's own user.
pub(super) fn may_ask(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}
