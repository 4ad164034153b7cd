//! `rr`, `crr` and `stream`: requests and responses of a fixed size, and bulk.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{
    call::{CallArgs, Transport, nanoseconds},
    report::Report,
    socket,
    until::{Pace, Until},
};

#[derive(Debug, clap::Args)]
pub(super) struct ExchangeArgs {
    #[command(flatten)]
    call: CallArgs,
    /// Bytes of a request and of its response; of a write, for `stream`.
    #[arg(long, default_value_t = 64)]
    size: usize,
}

impl ExchangeArgs {
    /// All bytes mean "echo", so that the first of a datagram does too.
    fn request(&self) -> Vec<u8> {
        vec![b'e'; self.size.max(1)]
    }
}

/// A connection that echoes.
enum Line {
    Tcp(TcpStream),
    Udp(UdpSocket),
    Unconnected(UdpSocket, SocketAddr),
}

impl Line {
    fn open(args: &CallArgs, attempt: u64) -> io::Result<(Self, Option<String>)> {
        let (target, timeout) = (args.target(attempt), args.timeout());
        Ok(match args.protocol {
            Transport::Tcp => {
                let (mut stream, _) = socket::tcp(target, timeout)?;
                let name = socket::read_name(&mut stream)?;
                stream.write_all(b"e")?;
                (Self::Tcp(stream), Some(name))
            }
            Transport::Udp => (Self::Udp(socket::udp(target, timeout)?.0), None),
            Transport::UdpUnconnected => {
                let socket = socket::udp_unconnected(target, timeout)?;
                (Self::Unconnected(socket, target), None)
            }
        })
    }

    fn exchange(&mut self, request: &[u8], response: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.write_all(request)?;
                stream.read_exact(response)
            }
            Self::Udp(socket) => {
                socket.send(request)?;
                socket.recv(response).map(drop)
            }
            Self::Unconnected(socket, target) => {
                socket.send_to(request, *target)?;
                socket.recv_from(response).map(drop)
            }
        }
    }
}

pub(super) fn rr(args: &ExchangeArgs) -> Result<Report> {
    args.call.in_parallel(|until| {
        let mut report = Report::default();
        if let Err(error) = rr_until(args, until, &mut report) {
            report.fail_with(&error);
        }
        report
    })
}

fn rr_until(args: &ExchangeArgs, until: &Until, report: &mut Report) -> io::Result<()> {
    let request = args.request();
    let mut response = request.clone();
    let mut pace = Pace::default();
    let (mut line, name) = Line::open(&args.call, 0)?;
    if let Some(name) = name {
        report.backends.insert(name, 1);
    }
    while until.next(&mut pace) {
        report.attempts += 1;
        let begin = Instant::now();
        line.exchange(&request, &mut response)?;
        report.samples_ns.push(nanoseconds(begin.elapsed()));
        report.answered += 1;
    }
    Ok(())
}

pub(super) fn crr(args: &ExchangeArgs) -> Result<Report> {
    args.call.in_parallel(|until| {
        let mut report = Report::default();
        let request = args.request();
        let mut pace = Pace::default();
        while until.next(&mut pace) {
            let once = crr_once(args, report.attempts, &request);
            report.attempts += 1;
            match once {
                Ok((took, name)) => {
                    report.samples_ns.push(nanoseconds(took));
                    match name {
                        Some(name) => args.call.note(&mut report, &name),
                        None => report.answered += 1,
                    }
                }
                Err(error) => report.fail_with(&error),
            }
        }
        report
    })
}

/// How long it took, and who greeted; over UDP nobody does.
fn crr_once(
    args: &ExchangeArgs,
    attempt: u64,
    request: &[u8],
) -> io::Result<(Duration, Option<String>)> {
    let mut response = vec![0; request.len()];
    let begin = Instant::now();
    let (mut line, name) = Line::open(&args.call, attempt)?;
    line.exchange(request, &mut response)?;
    drop(line);
    Ok((begin.elapsed(), name))
}

pub(super) fn stream(args: &ExchangeArgs) -> Result<Report> {
    ensure!(
        args.call.protocol == Transport::Tcp,
        "stream is for TCP alone"
    );
    args.call.in_parallel(|until| {
        let mut report = Report::default();
        if let Err(error) = stream_until(args, until, &mut report) {
            report.fail_with(&error);
        }
        report
    })
}

fn stream_until(args: &ExchangeArgs, until: &Until, report: &mut Report) -> io::Result<()> {
    let (mut stream, _) = socket::tcp(args.call.target(0), args.call.timeout())?;
    let name = socket::read_name(&mut stream)?;
    report.attempts += 1;
    stream.write_all(b"d")?;
    let chunk = vec![0; args.size.max(1)];
    while !until.over() {
        stream.write_all(&chunk)?;
        report.bytes += u64::try_from(chunk.len()).unwrap_or_default();
    }
    // The server closes when it has read everything.
    stream.shutdown(Shutdown::Write)?;
    while stream.read(&mut [0; 64])? > 0 {}
    report.answer(&name);
    Ok(())
}
