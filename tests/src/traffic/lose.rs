//! `lose`: connections that stay open, say nothing, and wait to be told that they are lost. When each was told is a sample,
//! in nanoseconds of the monotonic clock, so that it can be compared with when somebody else did something.

use std::{
    io::{self, Read},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use anyhow::Result;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    time::{ClockId, clock_gettime},
};

use super::{
    call::{CallArgs, Transport, nanoseconds},
    report::Report,
    socket,
    until::Until,
};

/// How often it looks whether it is to end, in milliseconds.
const LOOK: u16 = 20;

#[derive(Debug, clap::Args)]
pub(super) struct LoseArgs {
    #[command(flatten)]
    call: CallArgs,
    /// How many connections.
    #[arg(long, default_value_t = 1)]
    connections: usize,
}

enum Line {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Line {
    fn open(args: &CallArgs, target: SocketAddr) -> io::Result<Self> {
        let timeout = args.timeout();
        Ok(match args.protocol {
            Transport::Tcp => {
                let (mut stream, _) = socket::tcp(target, timeout)?;
                socket::read_name(&mut stream)?;
                Self::Tcp(stream)
            }
            Transport::Udp | Transport::UdpUnconnected => {
                Self::Udp(socket::udp(target, timeout)?.0)
            }
        })
    }

    /// What it was told. A UDP socket lives on, and may be told again; a TCP connection is over.
    fn told(&mut self) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(&mut [0]),
            Self::Udp(socket) => socket.recv(&mut [0]),
        }
    }

    fn is_over(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }
}

/// The clock of the samples.
pub fn monotonic() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}

pub(super) fn lose(args: &LoseArgs) -> Result<Report> {
    args.call.in_parallel(|until| wait(args, until))
}

fn wait(args: &LoseArgs, until: &Until) -> Report {
    let mut report = Report::default();
    let mut lines = Vec::new();
    for _ in 0..args.connections {
        let target = args.call.target(report.attempts);
        report.attempts += 1;
        match Line::open(&args.call, target) {
            Ok(line) => lines.push(line),
            Err(error) => report.fail_with(&error),
        }
    }
    eprintln!("holding {}", lines.len());
    while !until.over() {
        for index in ready(&lines).into_iter().rev() {
            note(&mut report, lines[index].told());
            if lines[index].is_over() {
                lines.swap_remove(index);
            }
        }
    }
    report
}

/// Those that have something to say, in order.
fn ready(lines: &[Line]) -> Vec<usize> {
    let mut fds: Vec<PollFd<'_>> = lines
        .iter()
        .map(|line| PollFd::new(line.as_fd(), PollFlags::POLLIN))
        .collect();
    if poll(&mut fds, PollTimeout::from(LOOK)).is_err() {
        return Vec::new();
    }
    let said = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
    let ready = fds.iter().enumerate().filter(|(_, fd)| said(fd));
    ready.map(|(index, _)| index).collect()
}

fn note(report: &mut Report, told: io::Result<usize>) {
    report.samples_ns.extend(monotonic().map(nanoseconds));
    match told {
        Ok(0) => report.fail_with(&io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => report.answer("somebody"),
        Err(error) => report.fail_with(&error),
    }
}
