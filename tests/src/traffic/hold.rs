//! `hold`: connections that stay open and are asked now and then whether the same one still answers.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    call::{CallArgs, Transport, nanoseconds},
    report::{Failure, Report},
    socket,
    until::Until,
};

#[derive(Debug, clap::Args)]
pub(super) struct HoldArgs {
    #[command(flatten)]
    call: CallArgs,
    /// How many connections each thread holds.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Milliseconds from one round of asking to the next.
    #[arg(long, default_value_t = 20)]
    interval: u64,
}

/// A connection and who answered first.
struct Held {
    line: Line,
    name: String,
}

enum Line {
    Tcp(TcpStream),
    Udp(UdpSocket),
    Unconnected(UdpSocket, SocketAddr),
}

impl Line {
    fn open(args: &CallArgs) -> io::Result<(Self, Option<String>)> {
        let (target, timeout) = (args.target(), args.timeout());
        Ok(match args.protocol {
            Transport::Tcp => {
                let (mut stream, _) = socket::tcp(target, timeout)?;
                let name = socket::read_name(&mut stream)?;
                (Self::Tcp(stream), Some(name))
            }
            Transport::Udp => (Self::Udp(socket::udp(target, timeout)?.0), None),
            Transport::UdpUnconnected => {
                let socket = socket::udp_unconnected(target, timeout)?;
                (Self::Unconnected(socket, target), None)
            }
        })
    }

    /// Who is there?
    fn ask(&mut self) -> io::Result<String> {
        let mut buffer = [0; 512];
        let length = match self {
            Self::Tcp(stream) => {
                stream.write_all(b"!")?;
                return socket::read_name(stream);
            }
            Self::Udp(socket) => {
                socket.send(b"!")?;
                socket.recv(&mut buffer)?
            }
            Self::Unconnected(socket, target) => {
                socket.send_to(b"!", *target)?;
                socket.recv(&mut buffer)?
            }
        };
        socket::split_answer(&buffer[..length])
            .map(|(name, _)| name)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

pub(super) fn hold(args: &HoldArgs) -> Result<Report> {
    args.call.in_parallel(|until| hold_until(args, until))
}

fn hold_until(args: &HoldArgs, until: &Until) -> Report {
    let mut report = Report::default();
    let mut held: Vec<Held> = (0..args.connections)
        .filter_map(|_| open(args, &mut report))
        .collect();
    while !until.over() {
        until.pause(Duration::from_millis(args.interval));
        // The last round comes after the end was asked for: it speaks for the moment of the end.
        held.retain_mut(|held| ping(args, held, &mut report));
    }
    report
}

fn open(args: &HoldArgs, report: &mut Report) -> Option<Held> {
    report.attempts += 1;
    let opened = Line::open(&args.call).and_then(|(mut line, name)| {
        let name = name.map_or_else(|| line.ask(), Ok)?;
        Ok(Held { line, name })
    });
    match opened {
        Ok(held) => {
            args.call.note(report, &held.name);
            Some(held)
        }
        Err(error) => {
            report.fail_with(&error);
            None
        }
    }
}

/// False when the connection is no good any more.
fn ping(args: &HoldArgs, held: &mut Held, report: &mut Report) -> bool {
    report.attempts += 1;
    let begin = Instant::now();
    match held.line.ask() {
        Ok(name) if name == held.name => {
            report.samples_ns.push(nanoseconds(begin.elapsed()));
            args.call.note(report, &name);
            true
        }
        Ok(name) => {
            let first = &held.name;
            report.fail(Failure::Misdirected, || {
                format!("{name} instead of {first}")
            });
            false
        }
        Err(error) => {
            report.fail_with(&error);
            false
        }
    }
}
