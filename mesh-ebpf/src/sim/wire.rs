//! Packets for tests, as they are on an Ethernet wire: built field by field with every checksum right, cut into
//! fragments, put into ICMP errors. It shares no code with the datapath, so that it can judge it (`check`).

use std::{vec, vec::Vec};

use mesh_common::{Address, Port, Protocol};

mod check;
mod fragment;

pub use check::{Seen, check, finish, parse};
pub use fragment::reassemble;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// Flags of TCP's header.
pub mod tcp {
    /// No more data.
    pub const FIN: u8 = 1;
    /// A new connection.
    pub const SYN: u8 = 2;
    /// No connection.
    pub const RST: u8 = 4;
    /// The acknowledgement counts.
    pub const ACK: u8 = 16;
}

/// IP protocol numbers of extension headers (RFC 8200, RFC 4302).
pub mod extension {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment; `Datagram::fragments` makes it.
    pub const FRAGMENT: u8 = 44;
    /// Authentication.
    pub const AUTHENTICATION: u8 = 51;
    /// Destination options.
    pub const DESTINATION: u8 = 60;
}

/// A TCP segment or a UDP datagram. The family is that of the addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it comes from.
    pub source: (Address, Port),
    /// Where it goes.
    pub destination: (Address, Port),
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Of TCP.
    pub flags: u8,
    /// Of TCP: sequence number and acknowledgement.
    pub numbers: (u32, u32),
    /// Data.
    pub payload: Vec<u8>,
    /// IPv4: words of options, all "no operation".
    pub option_words: u8,
    /// IPv6: extension headers by number, each with how many units longer than the least.
    pub extensions: Vec<(u8, u8)>,
    /// Identification.
    pub id: u32,
    /// UDP: without checksum.
    pub no_checksum: bool,
}

impl Datagram {
    /// A TCP segment without data.
    #[must_use]
    pub const fn tcp(source: (Address, Port), destination: (Address, Port), flags: u8) -> Self {
        Self {
            source,
            destination,
            protocol: Protocol::Tcp,
            flags,
            numbers: (0x0102_0304, 0x0506_0708),
            payload: Vec::new(),
            option_words: 0,
            extensions: Vec::new(),
            id: 0,
            no_checksum: false,
        }
    }

    /// A UDP datagram without data.
    #[must_use]
    pub const fn udp(source: (Address, Port), destination: (Address, Port)) -> Self {
        let mut datagram = Self::tcp(source, destination, 0);
        datagram.protocol = Protocol::Udp;
        datagram
    }

    /// With data.
    #[must_use]
    pub fn with(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    fn is_v4(&self) -> bool {
        self.source.0.is_v4()
    }

    /// Transport header and data.
    fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.source.1.get().to_be_bytes());
        bytes.extend(self.destination.1.get().to_be_bytes());
        let at = match self.protocol {
            Protocol::Tcp => {
                bytes.extend(self.numbers.0.to_be_bytes());
                bytes.extend(self.numbers.1.to_be_bytes());
                bytes.extend([0x50, self.flags, 0x10, 0, 0, 0, 0, 0]);
                16
            }
            Protocol::Udp => {
                let length = 8 + self.payload.len() as u16;
                bytes.extend(length.to_be_bytes());
                bytes.extend([0, 0]);
                6
            }
        };
        bytes.extend(&self.payload);
        if !self.no_checksum {
            let ends = (self.source.0, self.destination.0);
            let sum = with_pseudo_header(ends, self.protocol.number(), &bytes);
            // RFC 768: a sum of 0 is sent as all ones.
            let sum = match (self.protocol, sum) {
                (Protocol::Udp, 0) => 0xffff,
                (Protocol::Udp | Protocol::Tcp, sum) => sum,
            };
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    /// The IP packet.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        if self.is_v4() {
            self.v4(&self.transport(), 0, false)
        } else {
            self.v6(&self.transport(), None)
        }
    }

    /// The Ethernet frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        frame(self.packet())
    }

    fn v4(&self, payload: &[u8], offset: u16, more: bool) -> Vec<u8> {
        let options = vec![1; usize::from(self.option_words) * 4];
        let fragment = (offset / 8) | (u16::from(more) << 13);
        v4_packet(
            (self.source.0, self.destination.0),
            (self.id as u16, fragment),
            (self.protocol.number(), &options),
            payload,
        )
    }

    /// `fragment` is the offset in bytes, and whether more follow.
    fn v6(&self, payload: &[u8], fragment: Option<(u16, bool)>) -> Vec<u8> {
        let mut headers = self.extensions.clone();
        if fragment.is_some() {
            headers.push((extension::FRAGMENT, 0));
        }
        let numbers: Vec<u8> = headers.iter().map(|(number, _)| *number).collect();
        let last = self.protocol.number();
        let next = |place: usize| numbers.get(place).copied().unwrap_or(last);
        let mut body = Vec::new();
        for (place, (number, units)) in headers.iter().enumerate() {
            let following = next(place + 1);
            match (*number, fragment) {
                (extension::FRAGMENT, Some((offset, more))) => {
                    body.extend([following, 0]);
                    body.extend((offset | u16::from(more)).to_be_bytes());
                    body.extend(self.id.to_be_bytes());
                }
                // Its length is in words, without the first two.
                (extension::AUTHENTICATION, _) => {
                    let words = 2 * usize::from(*units) + 4;
                    body.extend([following, words as u8 - 2]);
                    body.resize(body.len() + 4 * words - 2, 0);
                }
                _ => {
                    body.extend([following, *units]);
                    body.resize(body.len() + 6 + 8 * usize::from(*units), 0);
                }
            }
        }
        body.extend(payload);
        v6_packet((self.source.0, self.destination.0), next(0), &body)
    }
}

/// Types of ICMP errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Does not fit a link of so many bytes.
    TooBig(u16),
    /// Nobody is at the port.
    PortUnreachable,
    /// Too many hops.
    TimeExceeded,
}

impl Error {
    fn header(self, is_v4: bool) -> [u8; 8] {
        let (kind, rest) = match (self, is_v4) {
            (Self::TooBig(mtu), true) => ([3, 4], u32::from(mtu)),
            (Self::TooBig(mtu), false) => ([2, 0], u32::from(mtu)),
            (Self::PortUnreachable, true) => ([3, 3], 0),
            (Self::PortUnreachable, false) => ([1, 4], 0),
            (Self::TimeExceeded, true) => ([11, 0], 0),
            (Self::TimeExceeded, false) => ([3, 0], 0),
        };
        let [a, b, c, d] = rest.to_be_bytes();
        [kind[0], kind[1], 0, 0, a, b, c, d]
    }

    /// The Ethernet frame of the error, which shows so many bytes of an IP packet.
    #[must_use]
    pub fn frame(self, from: Address, to: Address, about: &[u8], shown: usize) -> Vec<u8> {
        let mut body = self.header(from.is_v4()).to_vec();
        body.extend(&about[..shown.min(about.len())]);
        frame(icmp_packet(from, to, body))
    }
}

/// An IP packet with an ICMP message, whose checksum is put in.
#[must_use]
pub fn icmp_packet(from: Address, to: Address, mut message: Vec<u8>) -> Vec<u8> {
    let is_v4 = from.is_v4();
    let sum = if is_v4 {
        !fold(sum(&message))
    } else {
        with_pseudo_header((from, to), 58, &message)
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    if is_v4 {
        v4_packet((from, to), (0, 0), (1, &[]), &message)
    } else {
        v6_packet((from, to), 58, &message)
    }
}

/// An Ethernet frame around an IP packet.
#[must_use]
pub fn frame(packet: Vec<u8>) -> Vec<u8> {
    let kind = if packet.first().is_some_and(|first| first >> 4 == 6) {
        [0x86, 0xdd]
    } else {
        [0x08, 0x00]
    };
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    bytes.extend(kind);
    bytes.extend(packet);
    bytes
}

/// `id` is identification and fragment word, `upper` the protocol and the options.
fn v4_packet(
    (from, to): (Address, Address),
    (id, fragment): (u16, u16),
    (protocol, options): (u8, &[u8]),
    payload: &[u8],
) -> Vec<u8> {
    let header = 20 + options.len();
    let mut bytes = vec![0x40 | (header / 4) as u8, 0];
    bytes.extend(((header + payload.len()) as u16).to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(octets(from));
    bytes.extend(octets(to));
    bytes.extend(options);
    let sum = !fold(sum(&bytes));
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn v6_packet((from, to): (Address, Address), next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend(octets(from));
    bytes.extend(octets(to));
    bytes.extend(payload);
    bytes
}

/// The bytes of an address as its family's header has them.
fn octets(address: Address) -> Vec<u8> {
    match address.to_ip() {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// RFC 1071 as it is written: 16-bit words in network order, an odd byte at the end counts as the high one.
fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    bytes.chunks(2).map(word).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

fn with_pseudo_header((from, to): (Address, Address), protocol: u8, bytes: &[u8]) -> u16 {
    let pseudo = sum(&octets(from)) + sum(&octets(to)) + u64::from(protocol) + bytes.len() as u64;
    !fold(pseudo + sum(bytes))
}
