//! The other direction: what a frame says, and whether every checksum in it is right.

use std::{format, string::String, vec::Vec};

use mesh_common::{Address, Port};

use super::{ETHERNET, extension, fold, sum, with_pseudo_header};

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it comes from; port 0 for what has none.
    pub source: (Address, Port),
    /// Where it goes.
    pub destination: (Address, Port),
    /// IP protocol number.
    pub protocol: u8,
    /// Where the transport header begins in the frame.
    pub transport: usize,
    /// Whether it is a part of a packet.
    pub is_fragment: bool,
    /// Whether it is one without the transport header.
    pub is_later: bool,
    /// The IP packet that an ICMP error is about.
    pub about: Option<Vec<u8>>,
}

/// What a frame of IP says; None for what is none, or ends too early.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Seen> {
    let mut seen = parse_packet(frame.get(ETHERNET..)?)?;
    seen.transport += ETHERNET;
    Some(seen)
}

pub(super) fn ends(packet: &[u8]) -> Option<(Address, Address)> {
    let address = |at: usize, length: usize| {
        let bytes = packet.get(at..at + length)?;
        match length {
            4 => Some(Address::from(
                <[u8; 4]>::try_from(bytes)
                    .ok()
                    .map(std::net::Ipv4Addr::from)?,
            )),
            _ => Some(Address::from(
                <[u8; 16]>::try_from(bytes)
                    .ok()
                    .map(std::net::Ipv6Addr::from)?,
            )),
        }
    };
    match packet.first()? >> 4 {
        4 => Some((address(12, 4)?, address(16, 4)?)),
        6 => Some((address(8, 16)?, address(24, 16)?)),
        _ => None,
    }
}

/// What is behind the IP headers.
struct Upper {
    protocol: u8,
    offset: usize,
    is_fragment: bool,
    is_later: bool,
}

fn upper(packet: &[u8]) -> Option<Upper> {
    if packet[0] >> 4 == 4 {
        let word = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]);
        let header = usize::from(packet[0] & 0xf) * 4;
        return Some(Upper {
            protocol: *packet.get(9)?,
            offset: header,
            is_fragment: word & 0x3fff != 0,
            is_later: word & 0x1fff != 0,
        });
    }
    let (mut next, mut at, mut fragment) = (*packet.get(6)?, 40, 0);
    loop {
        let length = usize::from(*packet.get(at + 1).unwrap_or(&0));
        let step = match next {
            extension::FRAGMENT => {
                fragment = u16::from_be_bytes(packet.get(at + 2..at + 4)?.try_into().ok()?);
                8
            }
            extension::AUTHENTICATION => (length + 2) * 4,
            extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION => (length + 1) * 8,
            _ => {
                return Some(Upper {
                    protocol: next,
                    offset: at,
                    is_fragment: fragment & 0xfff9 != 0,
                    is_later: fragment & 0xfff8 != 0,
                });
            }
        };
        next = *packet.get(at)?;
        at += step;
    }
}

fn parse_packet(packet: &[u8]) -> Option<Seen> {
    let (from, to) = ends(packet)?;
    let Upper {
        protocol,
        offset: transport,
        is_fragment,
        is_later,
    } = upper(packet)?;
    let port = |at: usize| {
        let bytes = packet.get(transport + at..transport + at + 2)?;
        Some(Port::new(u16::from_be_bytes(bytes.try_into().ok()?)))
    };
    let nothing = Port::new(0);
    let (source, destination) = if matches!(protocol, 6 | 17) && !is_later {
        (port(0)?, port(2)?)
    } else {
        (nothing, nothing)
    };
    Some(Seen {
        source: (from, source),
        destination: (to, destination),
        protocol,
        transport,
        is_fragment,
        is_later,
        about: about(packet, protocol, transport),
    })
}

fn about(packet: &[u8], protocol: u8, transport: usize) -> Option<Vec<u8>> {
    let kind = *packet.get(transport)?;
    let is_error = match protocol {
        1 => matches!(kind, 3 | 4 | 11 | 12),
        58 => matches!(kind, 1..=4),
        _ => false,
    };
    is_error.then(|| packet.get(transport + 8..).map(<[u8]>::to_vec))?
}

/// Recomputes every checksum of a frame: IPv4's header, transport, and the same of the packet that an ICMP error shows,
/// as far as it is whole.
///
/// # Errors
/// Names the first that is wrong.
pub fn check(frame: &[u8]) -> Result<(), String> {
    let packet = frame.get(ETHERNET..).ok_or("no Ethernet header")?;
    let seen = parse_packet(packet).ok_or("it cannot be read")?;
    check_packet(packet, &seen, "outer")?;
    if let Some(inner) = &seen.about {
        let Some(seen) = parse_packet(inner) else {
            return Err("the inner packet cannot be read".into());
        };
        check_packet(inner, &seen, "inner")?;
    }
    Ok(())
}

/// Finishes the checksum of a TCP packet that has the sum of its pseudo header alone, as a device does: adds everything else.
/// Done to a whole one it takes the same away. None if the frame is not one of TCP.
#[must_use]
pub fn finish(mut frame: Vec<u8>) -> Option<Vec<u8>> {
    let start = parse(&frame).filter(|seen| seen.protocol == 6)?.transport;
    let end = ETHERNET + length(&frame[ETHERNET..]);
    let whole = !fold(sum(frame.get(start..end)?));
    frame
        .get_mut(start + 16..start + 18)?
        .copy_from_slice(&whole.to_be_bytes());
    Some(frame)
}

/// Bytes of an IP packet by its own header.
fn length(packet: &[u8]) -> usize {
    let word = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    if packet[0] >> 4 == 4 {
        word(2)
    } else {
        40 + word(4)
    }
}

fn check_packet(packet: &[u8], seen: &Seen, which: &str) -> Result<(), String> {
    if packet[0] >> 4 == 4 {
        let header = usize::from(packet[0] & 0xf) * 4;
        let header = packet.get(..header).ok_or("the header ends early")?;
        if fold(sum(header)) != 0xffff {
            return Err(format!("{which} IPv4 header checksum"));
        }
    }
    let length = length(packet);
    if seen.is_fragment || length > packet.len() {
        return Ok(());
    }
    let bytes = &packet[seen.transport..length];
    let ends = (seen.source.0, seen.destination.0);
    let is_right = match seen.protocol {
        1 => fold(sum(bytes)) == 0xffff,
        // A UDP checksum of 0 is none.
        17 if bytes[6..8] == [0, 0] => true,
        6 | 17 | 58 => with_pseudo_header(ends, seen.protocol, bytes) == 0,
        _ => true,
    };
    if is_right {
        return Ok(());
    }
    Err(format!("{which} checksum of protocol {}", seen.protocol))
}
