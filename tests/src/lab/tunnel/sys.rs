//! TUNSETIFF, for which no crate of the project has a call.
#![expect(unsafe_code, reason = "the call takes a pointer")]

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
};

use nix::libc;

const IFF_TUN: i16 = 1;
const IFF_NO_PI: i16 = 0x1000;
/// _IOW('T', 202, int)
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;

/// struct ifreq: a name and a union, of which the flags are used.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    rest: [u8; 22],
}

/// Makes an interface of this name in the thread's namespace: what is read is what it sends, packet by packet. It goes with
/// the file.
pub(super) fn open(name: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK);
    let file = options.open("/dev/net/tun")?;
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        flags: IFF_TUN | IFF_NO_PI,
        rest: [0; 22],
    };
    let bytes = name.as_bytes();
    let room = &mut request.name[..libc::IFNAMSIZ - 1];
    room.get_mut(..bytes.len())
        .ok_or(io::ErrorKind::InvalidInput)?
        .copy_from_slice(bytes);
    // SAFETY: the request is of the size that the kernel reads and writes, and outlives the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}
