//! `serve`: TCP and UDP servers that say who they are.

use std::{
    fs::OpenOptions,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};

use super::{serve_tcp, until};

/// A server that was asked to end goes on until nothing has come for so long: what was on its way is answered.
pub(super) const QUIET: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// What to answer with.
    #[arg(long)]
    pub(super) name: String,
    /// The ports, for TCP and UDP alike.
    #[arg(long, required = true)]
    port: Vec<u16>,
    /// The addresses; all of them unless given.
    #[arg(long)]
    bind: Vec<IpAddr>,
}

impl ServeArgs {
    fn addresses(&self) -> Vec<SocketAddr> {
        let any = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let addresses = if self.bind.is_empty() {
            &any[..]
        } else {
            &self.bind
        };
        let pairs = addresses.iter().flat_map(|address| {
            self.port
                .iter()
                .map(|port| SocketAddr::new(*address, *port))
        });
        pairs.collect()
    }
}

/// When something came last, over all sockets, and whether the end was asked for.
#[derive(Debug)]
pub(super) struct Activity {
    begin: Instant,
    last: AtomicU64,
    asked: Arc<AtomicBool>,
}

impl Activity {
    /// Something came.
    pub(super) fn note(&self) {
        let now = self.begin.elapsed().as_millis();
        self.last
            .store(u64::try_from(now).unwrap_or_default(), Ordering::Relaxed);
    }

    /// Whether to end now.
    pub(super) fn over(&self) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.asked.load(Ordering::Relaxed) && self.begin.elapsed() >= last + QUIET
    }
}

pub(super) fn serve(args: &ServeArgs) -> Result<()> {
    let activity = Arc::new(Activity {
        begin: Instant::now(),
        last: AtomicU64::new(0),
        asked: until::on_sigterm()?,
    });
    let mut listeners = Vec::new();
    for address in args.addresses() {
        listeners.push(serve_tcp::listen(address)?);
        let socket = UdpSocket::from(open(address, SockType::Datagram)?);
        let (name, activity) = (args.name.clone(), Arc::clone(&activity));
        std::thread::spawn(move || serve_udp(&socket, &name, &activity));
    }
    close_output()?;
    serve_tcp::serve(&args.name, listeners, &activity)
}

/// A bound socket. IPv6 sockets are for IPv6 alone, or a datagram's answer would take another family's hooks.
pub(super) fn open(address: SocketAddr, kind: SockType) -> Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))
        .with_context(|| format!("cannot bind {address}"))?;
    Ok(fd)
}

/// Tells whoever started the server that it listens.
fn close_output() -> Result<()> {
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(null).context("cannot close the output")
}

fn serve_udp(socket: &UdpSocket, name: &str, activity: &Activity) {
    let mut buffer = vec![0; 65536];
    loop {
        // An error here is a client that went away: an ICMP error for an answer sent before.
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        activity.note();
        let answer = answer(&buffer[..length], name, peer);
        drop(socket.send_to(&answer, peer));
    }
}

fn answer(datagram: &[u8], name: &str, peer: SocketAddr) -> Vec<u8> {
    let line = match datagram.first() {
        Some(b'e') => return datagram.to_vec(),
        Some(b'?') => peer.to_string(),
        Some(_) | None => name.to_owned(),
    };
    let mut answer = line.into_bytes();
    answer.push(b'\n');
    answer.extend(datagram.iter().skip(1));
    answer
}

/// Whether an accept or a read has nothing more for now.
pub(super) fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_answered_by_their_first_byte() {
        let peer: SocketAddr = "192.0.2.1:7".parse().unwrap();
        assert_eq!(answer(b"!7", "web", peer), b"web\n7");
        assert_eq!(answer(b"", "web", peer), b"web\n");
        assert_eq!(answer(b"?", "web", peer), b"192.0.2.1:7\n");
        assert_eq!(answer(b"eee", "web", peer), b"eee");
    }
}
