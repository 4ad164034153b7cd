//! `connect`: one connection after the other, each reads who answers.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    call::{CallArgs, Transport, nanoseconds},
    report::{Failure, Report},
    socket,
    until::{Pace, Until},
};

/// Who answered, and how long what is measured took.
struct Answer {
    name: String,
    took: Duration,
    /// What getpeername showed, or where the answer came from.
    peer: SocketAddr,
    peer_failure: Failure,
}

pub(super) fn connect(args: &CallArgs) -> Result<Report> {
    args.in_parallel(|until| connect_until(args, until))
}

fn connect_until(args: &CallArgs, until: &Until) -> Report {
    let mut report = Report::default();
    let mut pace = Pace::default();
    let mut kept = None;
    while until.next(&mut pace) {
        if args.stop_at_failure && !report.errors.is_empty() {
            break;
        }
        let target = args.target(report.attempts);
        report.attempts += 1;
        match attempt(args, target, &mut kept) {
            Ok(answer) => note(args, target, &mut report, &answer),
            Err(error) => report.fail_with(&error),
        }
    }
    report
}

fn note(args: &CallArgs, target: SocketAddr, report: &mut Report, answer: &Answer) {
    report.samples_ns.push(nanoseconds(answer.took));
    if socket::same_peer(answer.peer, target) {
        args.note(report, &answer.name);
        return;
    }
    let peer = answer.peer;
    report.fail(answer.peer_failure, || format!("{peer} shows for {target}"));
}

fn attempt(
    args: &CallArgs,
    target: SocketAddr,
    kept: &mut Option<UdpSocket>,
) -> io::Result<Answer> {
    match args.protocol {
        Transport::Tcp => tcp(target, args.timeout()),
        Transport::Udp | Transport::UdpUnconnected if args.keep_socket => {
            let connected = args.protocol == Transport::Udp;
            let socket = match kept.take() {
                Some(socket) => socket,
                None if connected => socket::udp(target, args.timeout())?.0,
                None => socket::udp_unconnected(target, args.timeout())?,
            };
            let socket = kept.insert(socket);
            if connected {
                ask(socket, target, Duration::ZERO)
            } else {
                unconnected(socket, target)
            }
        }
        Transport::Udp => {
            let (socket, took) = socket::udp(target, args.timeout())?;
            ask(&socket, target, took)
        }
        Transport::UdpUnconnected => {
            unconnected(&socket::udp_unconnected(target, args.timeout())?, target)
        }
    }
}

fn tcp(target: SocketAddr, timeout: Duration) -> io::Result<Answer> {
    let (mut stream, took) = socket::tcp(target, timeout)?;
    Ok(Answer {
        name: socket::read_name(&mut stream)?,
        took,
        peer: stream.peer_addr()?,
        peer_failure: Failure::Peer,
    })
}

/// By a connected socket.
fn ask(socket: &UdpSocket, target: SocketAddr, took: Duration) -> io::Result<Answer> {
    socket.send(b"!")?;
    let mut buffer = [0; 512];
    let (length, source) = socket.recv_from(&mut buffer)?;
    let peer = socket.peer_addr()?;
    let misdirected = !socket::same_peer(source, target);
    Ok(Answer {
        name: name_in(&buffer[..length])?,
        took,
        peer: if misdirected { source } else { peer },
        peer_failure: if misdirected {
            Failure::Misdirected
        } else {
            Failure::Peer
        },
    })
}

fn unconnected(socket: &UdpSocket, target: SocketAddr) -> io::Result<Answer> {
    let mut buffer = [0; 512];
    let begin = Instant::now();
    socket.send_to(b"!", target)?;
    let (length, peer) = socket.recv_from(&mut buffer)?;
    Ok(Answer {
        took: begin.elapsed(),
        name: name_in(&buffer[..length])?,
        peer,
        peer_failure: Failure::Misdirected,
    })
}

fn name_in(datagram: &[u8]) -> io::Result<String> {
    socket::split_answer(datagram)
        .map(|(name, _)| name)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
