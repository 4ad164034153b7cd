//! The TCP side of `serve`: one thread, one epoll, so that thousands of connections cost little.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd},
};

use anyhow::Result;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        socket::{Backlog, SockType, listen as start_listening},
    },
};

use super::serve::{Activity, open, would_block};

const EVENTS: usize = 256;
const TICK_MILLISECONDS: u16 = 100;
/// A client that reads nothing for so long is dropped: it must not hold up the others.
const STALLED_MILLISECONDS: u16 = 1000;

/// What a connection's bytes mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Commands,
    Echo,
    Discard,
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    mode: Mode,
}

struct Server<'a> {
    name: &'a str,
    epoll: Epoll,
    listeners: BTreeMap<u64, TcpListener>,
    connections: BTreeMap<u64, Connection>,
}

pub(super) fn listen(address: SocketAddr) -> Result<TcpListener> {
    let fd = open(address, SockType::Stream)?;
    // As many as the system allows; the C library of a static build would name fewer.
    start_listening(&fd, Backlog::MAXALLOWABLE)?;
    let listener = TcpListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

pub(super) fn serve(name: &str, listeners: Vec<TcpListener>, activity: &Activity) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut server = Server {
        name,
        epoll,
        listeners: BTreeMap::new(),
        connections: BTreeMap::new(),
    };
    for listener in listeners {
        let token = server.watch(&listener)?;
        server.listeners.insert(token, listener);
    }
    let mut buffer = vec![0; 256 * 1024];
    let mut events = [EpollEvent::empty(); EVENTS];
    while !activity.over() {
        let count = match server
            .epoll
            .wait(&mut events, EpollTimeout::from(TICK_MILLISECONDS))
        {
            Err(nix::Error::EINTR) => 0,
            other => other?,
        };
        if count > 0 {
            activity.note();
        }
        for event in &events[..count] {
            server.handle(event.data(), &mut buffer)?;
        }
    }
    Ok(())
}

impl Server<'_> {
    fn watch<F: AsFd + AsRawFd>(&self, fd: &F) -> Result<u64> {
        let token = u64::try_from(fd.as_raw_fd())?;
        self.epoll
            .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        Ok(token)
    }

    fn handle(&mut self, token: u64, buffer: &mut [u8]) -> Result<()> {
        if let Some(listener) = self.listeners.get(&token) {
            // An error of accept is a client that went away while it waited.
            while let Ok((stream, peer)) = accept(listener, self.name) {
                let token = self.watch(&stream)?;
                let mode = Mode::Commands;
                self.connections
                    .insert(token, Connection { stream, peer, mode });
            }
            return Ok(());
        }
        let name = self.name;
        let open = self
            .connections
            .get_mut(&token)
            .is_some_and(|connection| connection.receive(name, buffer).unwrap_or(false));
        if !open {
            self.connections.remove(&token);
        }
        Ok(())
    }
}

fn accept(listener: &TcpListener, name: &str) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        let (mut stream, peer) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        // The greeting fits an empty buffer; it fails only for a client that is gone.
        if stream.write_all(format!("{name}\n").as_bytes()).is_ok() {
            return Ok((stream, peer));
        }
    }
}

impl Connection {
    /// False when the client has closed.
    fn receive(&mut self, name: &str, buffer: &mut [u8]) -> io::Result<bool> {
        let count = match self.stream.read(buffer) {
            Ok(0) => return Ok(false),
            Err(error) if would_block(&error) => return Ok(true),
            other => other?,
        };
        let answer = self.obey(name, &buffer[..count]);
        self.send(&answer)?;
        Ok(true)
    }

    fn obey(&mut self, name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        for (index, byte) in bytes.iter().enumerate() {
            match (self.mode, byte) {
                (Mode::Discard, _) => break,
                (Mode::Echo, _) => {
                    answer.extend(&bytes[index..]);
                    break;
                }
                (Mode::Commands, b'e') => self.mode = Mode::Echo,
                (Mode::Commands, b'd') => self.mode = Mode::Discard,
                (Mode::Commands, b'?') => answer.extend(format!("{}\n", self.peer).bytes()),
                (Mode::Commands, _) => answer.extend(format!("{name}\n").bytes()),
            }
        }
        answer
    }

    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if would_block(&error) => self.wait_writable()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait_writable(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut fds, PollTimeout::from(STALLED_MILLISECONDS))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}
