//! Names of nftables' tables and chains, asked of the kernel by netlink: no binaries are needed. Chains of
//! iptables-nft are among them.

use std::{io, os::fd::AsRawFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;

const SUBSYSTEM: u16 = 10 << 8;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const REQUEST_AND_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// The first of these names that a table or chain has.
pub(super) fn has_name(names: &[&'static str]) -> io::Result<Option<&'static str>> {
    for request in [GET_TABLE, GET_CHAIN] {
        let answer = match dump(request) {
            // A kernel without nftables has no rules in it.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                return Ok(None);
            }
            result => result?,
        };
        let is_there = |name: &&&str| {
            // A name is an attribute's whole text, which ends with a zero and begins after the attribute's type.
            let text = [&[0], name.as_bytes(), &[0]].concat();
            answer.windows(text.len()).any(|window| window == text)
        };
        if let Some(name) = names.iter().find(is_there) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Everything that the kernel answers to a dump request.
fn dump(request: u16) -> io::Result<Vec<u8>> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(2, 0))?;
    let mut message = Vec::with_capacity(20);
    message.extend(20_u32.to_ne_bytes());
    message.extend(request.to_ne_bytes());
    message.extend(REQUEST_AND_DUMP.to_ne_bytes());
    // Sequence and port are zero; so are family (all of them), version and resource.
    message.extend([0; 12]);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let received = &buffer[..length];
        match end(received)? {
            true => return Ok(answer),
            false => answer.extend_from_slice(received),
        }
    }
}

/// Whether a datagram ends the dump. The kernel sends the end in a datagram of its own.
fn end(datagram: &[u8]) -> io::Result<bool> {
    let number = |at: usize| {
        Some(u16::from_ne_bytes([
            *datagram.get(at)?,
            *datagram.get(at + 1)?,
        ]))
    };
    match number(4) {
        Some(NLMSG_DONE) | None => Ok(true),
        Some(NLMSG_ERROR) => {
            let code = datagram
                .get(16..20)
                .map_or([0; 4], |code| [code[0], code[1], code[2], code[3]]);
            Err(io::Error::from_raw_os_error(-i32::from_ne_bytes(code)))
        }
        Some(_) => Ok(false),
    }
}
