//! Whether the kernel destroys sockets, tried on sockets of our own: connected on loopback, where nobody else is touched.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
};

use crate::{
    datapath::socket_cookie,
    netlink::{Family, SockDiag, Transport},
};

/// The protocols whose sockets the kernel does not destroy, and why.
#[must_use]
pub fn spared_by_kernel() -> Vec<(&'static str, io::Error)> {
    let tries = Transport::ALL.map(|transport| (transport.name(), destroy_own(transport).err()));
    let failed = tries.into_iter();
    failed
        .filter_map(|(name, error)| Some((name, error?)))
        .collect()
}

fn destroy_own(transport: Transport) -> io::Result<()> {
    let own = Own::connected(transport)?;
    let cookie = socket_cookie(own.socket.as_fd())?;
    let mut diag = SockDiag::open()?;
    let found = diag.connected_to(transport, Family::V4, &BTreeSet::from([own.to.ip().into()]))?;
    let found = found.iter().find(|socket| socket.cookie == cookie);
    let found = found.ok_or_else(|| io::Error::other("a socket of our own is not listed"))?;
    diag.destroy(found).map(drop)
}

struct Own {
    socket: OwnedFd,
    to: SocketAddr,
    _server: Option<TcpListener>,
}

impl Own {
    fn connected(transport: Transport) -> io::Result<Self> {
        let anywhere = (Ipv4Addr::LOCALHOST, 0);
        match transport {
            Transport::Tcp => {
                let server = TcpListener::bind(anywhere)?;
                let to = server.local_addr()?;
                Ok(Self {
                    socket: TcpStream::connect(to)?.into(),
                    to,
                    _server: Some(server),
                })
            }
            Transport::Udp => {
                let socket = UdpSocket::bind(anywhere)?;
                let to = socket.local_addr()?;
                socket.connect(to)?;
                Ok(Self {
                    socket: socket.into(),
                    to,
                    _server: None,
                })
            }
        }
    }
}
