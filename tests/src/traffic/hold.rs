//! `hold`: connections that stay open and are asked now and then whether the same one still answers.

use std::{
    io::{self, ErrorKind, Write},
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
    /// Another one may answer later: an unconnected socket chooses anew when its backend is gone.
    #[arg(long)]
    may_move: bool,
}

/// A connection, whom it was made to and who answered first.
struct Held {
    line: Line,
    target: SocketAddr,
    name: String,
}

enum Line {
    Tcp(TcpStream),
    Udp(UdpSocket),
    Unconnected(UdpSocket),
}

/// Who answered, and from where as the socket shows it.
struct Answer {
    name: String,
    peer: SocketAddr,
    peer_failure: Failure,
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
            Transport::Udp => Self::Udp(socket::udp(target, timeout)?.0),
            Transport::UdpUnconnected => {
                Self::Unconnected(socket::udp_unconnected(target, timeout)?)
            }
        })
    }

    /// Who is there?
    fn ask(&mut self, target: SocketAddr) -> io::Result<Answer> {
        let mut buffer = [0; 512];
        let (length, peer, peer_failure) = match self {
            Self::Tcp(stream) => {
                stream.write_all(b"!")?;
                return Ok(Answer {
                    name: socket::read_name(stream)?,
                    peer: stream.peer_addr()?,
                    peer_failure: Failure::Peer,
                });
            }
            Self::Udp(socket) => {
                socket.send(b"!")?;
                let length = socket.recv(&mut buffer)?;
                (length, socket.peer_addr()?, Failure::Peer)
            }
            Self::Unconnected(socket) => {
                socket.send_to(b"!", target)?;
                let (length, peer) = socket.recv_from(&mut buffer)?;
                (length, peer, Failure::Misdirected)
            }
        };
        let (name, _) = socket::split_answer(&buffer[..length]).ok_or(ErrorKind::InvalidData)?;
        Ok(Answer {
            name,
            peer,
            peer_failure,
        })
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
    eprintln!("holding {}", held.len());
    while !until.over() {
        until.pause(Duration::from_millis(args.interval));
        // The last round comes after the end was asked for: it speaks for the moment of the end.
        held.retain_mut(|held| ping(args, held, &mut report));
    }
    report
}

fn open(args: &HoldArgs, report: &mut Report) -> Option<Held> {
    let target = args.call.target(report.attempts);
    report.attempts += 1;
    let opened = Line::open(&args.call, target).and_then(|mut line| {
        let answer = line.ask(target)?;
        Ok((line, answer))
    });
    match opened {
        Ok((line, answer)) => {
            note(args, target, &answer, report);
            Some(Held {
                line,
                target,
                name: answer.name,
            })
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
    match held.line.ask(held.target) {
        Ok(answer) if answer.name == held.name || args.may_move => {
            report.samples_ns.push(nanoseconds(begin.elapsed()));
            note(args, held.target, &answer, report);
            held.name = answer.name;
            true
        }
        Ok(answer) => {
            let (first, name) = (&held.name, &answer.name);
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

fn note(args: &HoldArgs, target: SocketAddr, answer: &Answer, report: &mut Report) {
    let peer = answer.peer;
    if socket::same_peer(peer, target) {
        args.call.note(report, &answer.name);
        return;
    }
    report.fail(answer.peer_failure, || format!("{peer} shows for {target}"));
}
