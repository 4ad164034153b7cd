//! Datagrams through a path, as fast as one thread sends them, and what each that arrived took of the processor. The flows
//! are open: each has had an answer. Nobody reads at the other end, so that no process wakes up there: what has arrived is
//! counted at the interface, and the socket drops it.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use mesh_lab::Place;
use nix::sys::socket::{setsockopt, sockopt};

use super::cpu;
use crate::bench::world::client_cpu;

/// Flows that take turns.
pub(super) const FLOWS: u64 = 16;
/// Bytes of a datagram: 64 on the wire with all headers but Ethernet's checksum.
pub(super) const SIZE: usize = 18;
/// CPU time of a burst, after one of a tenth of it that is not counted.
pub(super) const TIME: Duration = Duration::from_millis(200);
/// At most so much by the clock, on a machine that others keep busy.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at the clock.
const STRIDE: usize = 64;
const ANSWER: Duration = Duration::from_millis(250);

/// Where a path ends.
pub(super) struct Sink {
    socket: UdpSocket,
    place: Place,
}

impl Sink {
    pub(super) fn open(place: Place, port: u16) -> Result<Self> {
        let socket = place.within(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?))?;
        // The least there is: a few datagrams.
        setsockopt(&socket, sockopt::RcvBuf, &0)?;
        socket.set_read_timeout(Some(ANSWER))?;
        Ok(Self { socket, place })
    }

    /// Takes out what a burst has left, which is as much as there is room for.
    fn drain(&self) -> Result<()> {
        self.socket.set_nonblocking(true)?;
        while self.socket.recv(&mut [0; 64]).is_ok() {}
        Ok(self.socket.set_nonblocking(false)?)
    }

    /// Answers datagrams until the one with this word has come.
    fn answer(&self, word: &[u8]) -> Result<()> {
        let mut buffer = [0; 64];
        loop {
            let received = self.socket.recv_from(&mut buffer);
            let (length, peer) = received.context("the datagram did not arrive")?;
            if &buffer[..length] == word {
                self.socket.send_to(word, peer)?;
                return Ok(());
            }
        }
    }

    /// Packets that have come to its interface so far.
    fn arrived(&self) -> Result<u64> {
        let table = self
            .place
            .within(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
        arrived(&table)
    }
}

/// Received packets of eth0 in /proc/net/dev.
fn arrived(table: &str) -> Result<u64> {
    let line = table
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("eth0:"));
    let packets = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(packets.context("no eth0 in /proc/net/dev")?.parse()?)
}

/// What was measured.
#[derive(Clone, Copy)]
pub(super) struct Burst {
    /// Nanoseconds of CPU time a packet.
    pub(super) cpu: f64,
    /// Packets a second by the clock.
    pub(super) rate: f64,
    /// Of those that were sent, how many did not arrive.
    pub(super) lost: f64,
}

/// Opens flows from a place through an address to the sink, and sends.
pub(super) fn burst(client: &Place, to: SocketAddr, sink: &Sink) -> Result<Burst> {
    sink.drain()?;
    client.within(|| {
        let flows = (0..FLOWS)
            .map(|number| open(to, sink, number))
            .collect::<Result<Vec<_>>>()
            .with_context(|| format!("no flow through {to}"))?;
        let cpu = client_cpu();
        cpu::pin(cpu)?;
        let softirq = cpu::Softirq::of([cpu])?;
        send(&flows, TIME / 10)?;
        let (arrived, taken) = (sink.arrived()?, softirq.time()?);
        let (own, begin) = (cpu::thread()?, Instant::now());
        let sent = send(&flows, TIME)?;
        let (own, elapsed) = (cpu::thread()? - own, begin.elapsed());
        let taken = softirq.time()? - taken;
        let arrived = (sink.arrived()? - arrived) as f64;
        ensure!(arrived > 0.0, "of {sent} packets through {to} none arrived");
        Ok(Burst {
            cpu: (own + taken).as_nanos() as f64 / arrived,
            rate: arrived / elapsed.as_secs_f64(),
            lost: 1.0 - arrived / sent as f64,
        })
    })
}

/// A flow that has had an answer.
fn open(to: SocketAddr, sink: &Sink, number: u64) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(ANSWER))?;
    let mut answer = [0; 64];
    let word = format!("{number} {:?}", socket.local_addr()?);
    socket.send(word.as_bytes())?;
    sink.answer(word.as_bytes())?;
    let length = socket
        .recv(&mut answer)
        .context("the answer did not arrive")?;
    ensure!(
        &answer[..length] == word.as_bytes(),
        "another's answer came"
    );
    Ok(socket)
}

/// Sends for so much CPU time of this thread; how many.
fn send(flows: &[UdpSocket], time: Duration) -> Result<u64> {
    let (begin, until) = (Instant::now(), cpu::thread()? + time);
    let payload = [0; SIZE];
    let mut sent = 0;
    let mut turns = flows.iter().cycle();
    while cpu::thread()? < until && begin.elapsed() < PATIENCE {
        for flow in turns.by_ref().take(STRIDE) {
            match flow.send(&payload) {
                Ok(_) => sent += 1,
                // An ICMP error for one before, or no room: the next may go.
                Err(error) if is_passing(error.kind()) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(sent)
}

fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_from_the_table_of_devices() {
        let table = "Inter-|   Receive\n face |bytes    packets errs\n    lo:  1 2 0\n  eth0: 5000 61 0 0\n";
        assert_eq!(arrived(table).unwrap(), 61);
        assert!(arrived("lo: 1 2").is_err());
    }
}
