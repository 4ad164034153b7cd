//! A filter of a clsact qdisc, by rtnetlink: how programs get to interfaces before Linux 6.6.
#![allow(unsafe_code, reason = "system calls of a netlink socket")]

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};

use crate::packet::Direction;

const NEW_QDISC: u16 = 36;
const NEW_FILTER: u16 = 44;
/// NLM_F_REQUEST, NLM_F_ACK and NLM_F_CREATE.
const FLAGS: u16 = 1 | 4 | 0x400;
const ETH_P_ALL: u16 = 3;

/// Puts a program at an interface. It goes with the interface's namespace.
pub(crate) fn attach(program: &OwnedFd, interface: u32, direction: Direction) -> Result<()> {
    let socket = open().context("a netlink socket")?;
    let qdisc = message(interface, 0xffff_0000, 0xffff_fff1, 0, &text(1, "clsact"));
    let made = ask(&socket, NEW_QDISC, &qdisc);
    made.context("clsact")?;
    let parent = match direction {
        Direction::Ingress => 0xffff_fff2,
        Direction::Egress => 0xffff_fff3,
    };
    let fd = attribute(6, &program.as_raw_fd().to_ne_bytes());
    let direct_action = attribute(8, &1_u32.to_ne_bytes());
    let options = [fd, text(7, "smoke"), direct_action].concat();
    let attributes = [text(1, "bpf"), attribute(2 | 0x8000, &options)].concat();
    let info = 1 << 16 | u32::from(ETH_P_ALL.to_be());
    let filter = message(interface, 0, parent, info, &attributes);
    ask(&socket, NEW_FILTER, &filter).context("filter")
}

/// tcmsg and attributes.
fn message(interface: u32, handle: u32, parent: u32, info: u32, attributes: &[u8]) -> Vec<u8> {
    let words = [0, interface, handle, parent, info];
    let head = words.iter().flat_map(|word| word.to_ne_bytes());
    head.chain(attributes.iter().copied()).collect()
}

fn text(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, format!("{text}\0").as_bytes())
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn open() -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a request and reads what the kernel says of it. What exists is as good as made.
fn ask(socket: &OwnedFd, kind: u16, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 16).unwrap_or(u32::MAX);
    let mut request = length.to_ne_bytes().to_vec();
    request.extend(kind.to_ne_bytes());
    request.extend(FLAGS.to_ne_bytes());
    request.extend([0; 8]);
    request.extend(body);
    // SAFETY: the pointer and the length are the buffer's own.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            request.as_ptr().cast(),
            request.len(),
            0,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = [0_u8; 4096];
    // SAFETY: as above.
    let got = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            answer.as_mut_ptr().cast(),
            answer.len(),
            0,
        )
    };
    if got < 20 {
        return Err(io::Error::other("no answer"));
    }
    let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    if code == 0 || code == -libc::EEXIST {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(-code))
}
