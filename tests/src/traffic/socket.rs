//! Client sockets: made here so that what is measured is connect() alone, and bounded in time.

use std::{
    io::{self, Read},
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::{
        socket::{
            AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket,
            sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};

/// A name is at most this long.
const LONGEST_NAME: usize = 256;

/// A socket's address as the command line has it; a name is looked up.
pub(super) fn resolve(text: &str) -> Result<SocketAddr, String> {
    let mut found = text
        .to_socket_addrs()
        .map_err(|error| format!("cannot find {text}: {error}"))?;
    found.next().ok_or_else(|| format!("{text} has no address"))
}

/// IPv4 as ::ffff:a.b.c.d.
pub(super) fn mapped(to: SocketAddr) -> SocketAddr {
    match to.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), to.port()),
        IpAddr::V6(_) => to,
    }
}

/// Flow label and scope of an IPv6 address are not what was asked for.
pub(super) fn same_peer(peer: SocketAddr, target: SocketAddr) -> bool {
    (peer.ip(), peer.port()) == (target.ip(), target.port())
}

fn open(to: SocketAddr, kind: SockType, timeout: Duration) -> io::Result<OwnedFd> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    let microseconds = i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX);
    let timeout = TimeVal::microseconds(microseconds);
    setsockopt(&fd, sockopt::SendTimeout, &timeout)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &timeout)?;
    Ok(fd)
}

/// How long connect() took; on failure too.
fn timed_connect(fd: &OwnedFd, to: SocketAddr) -> (io::Result<()>, Duration) {
    let address = SockaddrStorage::from(to);
    let begin = Instant::now();
    let outcome = connect(fd.as_raw_fd(), &address);
    let took = begin.elapsed();
    (outcome.map_err(io::Error::from), took)
}

/// A TCP connection, and how long connect() took. It will be closed by a reset: TIME_WAIT would use up the ports.
pub(super) fn tcp(to: SocketAddr, timeout: Duration) -> io::Result<(TcpStream, Duration)> {
    let fd = open(to, SockType::Stream, timeout)?;
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&fd, sockopt::Linger, &linger)?;
    setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    let (outcome, took) = timed_connect(&fd, to);
    outcome.map(|()| (TcpStream::from(fd), took))
}

/// A connected UDP socket, and how long connect() took.
pub(super) fn udp(to: SocketAddr, timeout: Duration) -> io::Result<(UdpSocket, Duration)> {
    let fd = open(to, SockType::Datagram, timeout)?;
    let (outcome, took) = timed_connect(&fd, to);
    outcome.map(|()| (UdpSocket::from(fd), took))
}

/// A UDP socket that is not connected.
pub(super) fn udp_unconnected(to: SocketAddr, timeout: Duration) -> io::Result<UdpSocket> {
    Ok(UdpSocket::from(open(to, SockType::Datagram, timeout)?))
}

/// The line that a server sends; byte by byte, so that nothing after it is lost.
pub(super) fn read_name(stream: &mut TcpStream) -> io::Result<String> {
    let mut buffer = [0; LONGEST_NAME];
    let mut length = 0;
    loop {
        let count = stream.read(&mut buffer[length..])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length += count;
        if buffer[length - 1] == b'\n' {
            return Ok(String::from_utf8_lossy(&buffer[..length - 1]).into_owned());
        }
    }
}

/// The line and what follows it in a datagram.
pub(super) fn split_answer(datagram: &[u8]) -> Option<(String, &[u8])> {
    let end = datagram.iter().position(|byte| *byte == b'\n')?;
    let name = String::from_utf8_lossy(&datagram[..end]).into_owned();
    Some((name, &datagram[end + 1..]))
}
