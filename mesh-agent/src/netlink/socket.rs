//! Sockets of netlink: one that asks and waits for the answer, one that is told what changes.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
        socket,
    },
};

use super::{
    Request, flag, kind,
    message::{Received, messages, read_u32},
};
use crate::datapath::set_socket_option;

const SOL_NETLINK: i32 = 270;
const ADD_MEMBERSHIP: i32 = 1;
const LISTEN_ALL_NSID: i32 = 8;
const GET_STRICT_CHK: i32 = 12;

/// RTNLGRP_LINK.
const GROUP_LINK: i32 = 1;
/// RTNLGRP_IPV4_IFADDR and RTNLGRP_IPV6_IFADDR.
const GROUPS_ADDRESS: [i32; 2] = [5, 9];

/// The kernel's dumps come in datagrams of at most 32 KiB.
const BUFFER: usize = 64 * 1024;

/// How often a dump is repeated that changes interrupt, before what there is of it is taken for an error.
const DUMP_ATTEMPTS: u32 = 16;

fn open(protocol: SockProtocol, flags: SockFlag) -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        flags | SockFlag::SOCK_CLOEXEC,
        protocol,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(socket)
}

/// A socket for questions and orders.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens one of the routing family in the namespace of this thread.
    pub(crate) fn open() -> io::Result<Self> {
        let fd = open(SockProtocol::NetlinkRoute, SockFlag::empty())?;
        // Without it the kernel ignores the namespace that addresses are asked for (Linux 4.20).
        set_socket_option(fd.as_fd(), SOL_NETLINK, GET_STRICT_CHK, 1)?;
        Ok(Self::new(fd))
    }

    /// Opens one that asks about the sockets in the namespace of this thread.
    pub(super) fn sock_diag() -> io::Result<Self> {
        open(SockProtocol::NetlinkSockDiag, SockFlag::empty()).map(Self::new)
    }

    /// Opens one that asks about the packet filters and flows of this thread's namespace.
    pub(crate) fn netfilter() -> io::Result<Self> {
        open(SockProtocol::NetlinkNetFilter, SockFlag::empty()).map(Self::new)
    }

    fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            sequence: 0,
            buffer: vec![0; BUFFER],
        }
    }

    /// Gives an order and waits until it is done.
    pub(crate) fn order(&mut self, request: Request) -> io::Result<()> {
        self.exchange(request, |_, _| {}).map(drop)
    }

    /// Asks for one thing, whose body is given. The request must ask for an acknowledgement too.
    pub(crate) fn ask(&mut self, request: Request) -> io::Result<Option<Vec<u8>>> {
        let mut answer = None;
        self.exchange(request, |_, body| answer = Some(body.to_vec()))?;
        Ok(answer)
    }

    /// Asks for everything: bodies of messages of the kind `wanted`. A dump during which something changed is repeated.
    pub(crate) fn dump(&mut self, request: &Request, wanted: u16) -> io::Result<Vec<Vec<u8>>> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut bodies = Vec::new();
            let interrupted = self.exchange(request.clone(), |kind, body| {
                if kind == wanted {
                    bodies.push(body.to_vec());
                }
            })?;
            if !interrupted {
                return Ok(bodies);
            }
        }
        Err(io::Error::other(
            "what was dumped changed at each of 16 attempts",
        ))
    }

    /// Asks for everything and looks at each body as it comes: there may be too many to hold. Whether something changed
    /// meanwhile, so that a body may have come twice or not at all.
    pub(crate) fn each(
        &mut self,
        request: Request,
        wanted: u16,
        mut see: impl FnMut(&[u8]),
    ) -> io::Result<bool> {
        let see = |kind, body: &[u8]| {
            if kind == wanted {
                see(body);
            }
        };
        self.exchange(request, see)
    }

    /// Sends a request and hands over what comes until the kernel says it is done; whether a dump was interrupted.
    fn exchange(&mut self, request: Request, mut each: impl FnMut(u16, &[u8])) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(self.sequence);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut interrupted = false;
        loop {
            let length = receive(self.fd.as_fd(), &mut self.buffer)?;
            // Answers to a question that failed half-way are still in the queue.
            let answers = messages(&self.buffer[..length]);
            for message in answers.filter(|message| message.sequence == self.sequence) {
                interrupted |= message.flags & flag::DUMP_INTERRUPTED != 0;
                match message.kind {
                    kind::ERROR | kind::DONE => return outcome(&message).map(|()| interrupted),
                    kind => each(kind, message.body),
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What ERROR and DONE say: 0 or an error number, negative. An empty DONE is fine.
fn outcome(message: &Received<'_>) -> io::Result<()> {
    match read_u32(message.body, 0).unwrap_or(0).cast_signed() {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
    }
}

/// Receives one datagram, whole.
fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    let length = loop {
        match recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
            Err(Errno::EINTR) => {}
            result => break result?,
        }
    };
    if length > buffer.len() {
        return Err(Errno::EMSGSIZE);
    }
    Ok(length)
}

/// A socket that is told of changes.
#[derive(Debug)]
pub(crate) struct Subscription {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

/// What a notification says that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Something changed.
    Changed,
    /// The link of this index was deleted, or moved to another namespace.
    Deleted(u32),
    /// Notifications were lost.
    Lost,
}

impl Subscription {
    /// Links and addresses of this thread's namespace.
    pub(crate) fn here() -> io::Result<Self> {
        let subscription = Self::open()?;
        subscription.join(GROUP_LINK)?;
        for group in GROUPS_ADDRESS {
            subscription.join(group)?;
        }
        Ok(subscription)
    }

    /// Addresses of every namespace that this one has an id for; needs CAP_NET_BROADCAST. It is a socket of its own,
    /// so that an index in another namespace is never taken for one in this.
    pub(crate) fn everywhere() -> io::Result<Self> {
        let subscription = Self::open()?;
        set_socket_option(subscription.as_fd(), SOL_NETLINK, LISTEN_ALL_NSID, 1)?;
        for group in GROUPS_ADDRESS {
            subscription.join(group)?;
        }
        Ok(subscription)
    }

    fn open() -> io::Result<Self> {
        Ok(Self {
            fd: open(SockProtocol::NetlinkRoute, SockFlag::SOCK_NONBLOCK)?,
            buffer: vec![0; BUFFER],
        })
    }

    fn join(&self, group: i32) -> io::Result<()> {
        set_socket_option(self.as_fd(), SOL_NETLINK, ADD_MEMBERSHIP, group)
    }

    /// Takes what has come, without waiting.
    pub(crate) fn take(&mut self) -> io::Result<Vec<Hint>> {
        let mut hints = Vec::new();
        loop {
            match receive(self.fd.as_fd(), &mut self.buffer) {
                Ok(length) => hints.extend(messages(&self.buffer[..length]).map(|it| hint(&it))),
                Err(Errno::EAGAIN) => return Ok(hints),
                Err(Errno::ENOBUFS) => hints.push(Hint::Lost),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The kernel tells of a bridge that loses a port by a deletion too, of family AF_BRIDGE: that link is still there.
fn hint(message: &Received<'_>) -> Hint {
    let family = message.body.first().copied().unwrap_or_default();
    match (message.kind, read_u32(message.body, 4)) {
        (kind::DELLINK, Some(index)) if family == 0 => Hint::Deleted(index),
        _ => Hint::Changed,
    }
}

impl AsFd for Subscription {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
