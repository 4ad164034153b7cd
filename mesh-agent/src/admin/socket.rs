//! The admin socket: root's alone, by its mode and by asking the kernel who is at the other end.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use tokio::net::{UnixListener, UnixStream};

use super::http::{Listener, ServerError};

/// Makes RUN_DIR/agent.sock with mode 0600. Whoever holds the lock of the run dir may remove an old one.
///
/// # Errors
/// The directory cannot be written.
pub fn bind_socket(path: &Path) -> Result<Listener, ServerError> {
    let socket_error = |source| ServerError::Socket {
        path: path.display().to_string(),
        source,
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(socket_error(error)),
        Ok(()) | Err(_) => {}
    }
    // The directory is 0700, so nobody else reaches the socket before its mode is set.
    let listener = UnixListener::bind(path).map_err(socket_error)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(socket_error)?;
    Ok(Listener::Unix(listener))
}

/// Only root and the agent's own user may ask.
pub(super) fn ensure_root(stream: &UnixStream) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid == 0 || uid == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("user {uid} may not use the admin socket"),
    ))
}
