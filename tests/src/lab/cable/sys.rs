//! TUNSETIFF and TUNSETOFFLOAD, for which no crate of the project has a call.
#![expect(unsafe_code, reason = "one call takes a pointer, the other a word")]

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
};

use nix::libc;

use super::Carries;

const IFF_TUN: i16 = 1;
const IFF_TAP: i16 = 2;
const IFF_NO_PI: i16 = 0x1000;
/// Before each frame comes a struct virtio_net_hdr: what is left to be done about checksums and segments.
const IFF_VNET_HDR: i16 = 0x4000;
/// _IOW('T', 202, int)
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
/// _IOW('T', 208, unsigned int)
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;
/// TUN_F_CSUM, TUN_F_TSO4 and TUN_F_TSO6.
const OFFLOADS: libc::c_ulong = 1 | 2 | 4;

/// struct ifreq: a name and a union, of which the flags are used.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    rest: [u8; 22],
}

/// Makes an interface of this name in the thread's namespace: what is read is what it sends, one by one. It goes with the
/// file.
pub(super) fn open(name: &str, carries: Carries) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK);
    let file = options.open("/dev/net/tun")?;
    let kind = match carries {
        Carries::Packets => IFF_TUN,
        Carries::Frames => IFF_TAP | IFF_VNET_HDR,
    };
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        flags: kind | IFF_NO_PI,
        rest: [0; 22],
    };
    let bytes = name.as_bytes();
    let room = &mut request.name[..libc::IFNAMSIZ - 1];
    room.get_mut(..bytes.len())
        .ok_or(io::ErrorKind::InvalidInput)?
        .copy_from_slice(bytes);
    // SAFETY: the request is of the size that the kernel reads and writes, and outlives the call.
    done(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
    if carries == Carries::Frames {
        // SAFETY: the kernel takes the word as it is and reads no memory.
        done(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD, OFFLOADS) })?;
    }
    Ok(file)
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
