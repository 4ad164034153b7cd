//! Cookies of network namespaces and of sockets, as programs at sockets are given them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const SO_NETNS_COOKIE: i32 = 71;

const SO_COOKIE: i32 = 57;

/// The cookie of the namespace that this thread is in.
pub(crate) fn own_netns_cookie() -> io::Result<u64> {
    let (family, flags) = (AddressFamily::Unix, SockFlag::SOCK_CLOEXEC);
    let socket = socket(family, SockType::Stream, flags, None)?;
    netns_cookie(socket.as_fd())
}

/// The cookie of the namespace that a socket belongs to (Linux 5.14).
fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    cookie(socket, SO_NETNS_COOKIE)
}

/// The cookie of a socket.
pub(crate) fn socket_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    cookie(socket, SO_COOKIE)
}

fn cookie(socket: BorrowedFd<'_>, option: i32) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).map_err(io::Error::other)?;
    let value: *mut u64 = &raw mut cookie;
    // SAFETY: the pointers are to a cookie and its length, both alive, and the length is the cookie's size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            value.cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}
