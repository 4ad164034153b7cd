//! Options of sockets that nix has no name for.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Sets an option whose value is an int.
pub(crate) fn set_socket_option(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: i32,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).map_err(io::Error::other)?;
    let value: *const i32 = &raw const value;
    // SAFETY: the pointer is to an int that is alive, and the length is its size.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.cast(), length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
