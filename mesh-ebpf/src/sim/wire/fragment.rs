//! Packets cut into fragments, and put together again.

use std::vec::Vec;

use super::{Datagram, ETHERNET, extension, frame, v4_packet, v6_packet};
use mesh_common::Address;

impl Datagram {
    /// The Ethernet frames of its fragments, each with so many bytes of it but the last: a multiple of eight.
    #[must_use]
    pub fn fragments(&self, size: usize) -> Vec<Vec<u8>> {
        let transport = self.transport();
        let last = transport.len().div_ceil(size).saturating_sub(1);
        let parts = transport.chunks(size).enumerate();
        parts
            .map(|(place, part)| {
                let (offset, more) = ((place * size) as u16, place != last);
                frame(if self.is_v4() {
                    self.v4(part, offset, more)
                } else {
                    self.v6(part, Some((offset, more)))
                })
            })
            .collect()
    }
}

/// The frame that fragments were before, as their receiver sees it; None if parts are missing or differ in where they
/// come from and go.
#[must_use]
pub fn reassemble(frames: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut parts = frames
        .iter()
        .map(|frame| part(&frame[ETHERNET..]))
        .collect::<Option<Vec<_>>>()?;
    parts.sort_by_key(|part| part.offset);
    let first = parts.first()?.clone();
    let mut payload = Vec::new();
    for part in &parts {
        if part.offset != payload.len() || part.ends != first.ends {
            return None;
        }
        payload.extend(&part.payload);
    }
    if parts.last()?.more {
        return None;
    }
    Some(frame(if first.ends.0.is_v4() {
        v4_packet(first.ends, (0, 0), (first.protocol, &[]), &payload)
    } else {
        v6_packet(first.ends, first.protocol, &payload)
    }))
}

#[derive(Clone)]
struct Part {
    ends: (Address, Address),
    offset: usize,
    more: bool,
    protocol: u8,
    payload: Vec<u8>,
}

fn part(packet: &[u8]) -> Option<Part> {
    let ends = super::check::ends(packet)?;
    let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    if packet[0] >> 4 == 4 {
        let header = usize::from(packet[0] & 0xf) * 4;
        return Some(Part {
            ends,
            offset: usize::from(word(6)? & 0x1fff) * 8,
            more: word(6)? & 0x2000 != 0,
            protocol: packet[9],
            payload: packet.get(header..)?.to_vec(),
        });
    }
    let (mut next, mut at) = (packet[6], 40);
    while next != extension::FRAGMENT {
        let length = usize::from(*packet.get(at + 1)?);
        next = match next {
            extension::AUTHENTICATION => {
                let next = packet[at];
                at += (length + 2) * 4;
                next
            }
            _ => {
                let next = packet[at];
                at += (length + 1) * 8;
                next
            }
        };
    }
    Some(Part {
        ends,
        offset: usize::from(word(at + 2)? & !7),
        more: word(at + 2)? & 1 != 0,
        protocol: packet[at],
        payload: packet.get(at + 8..)?.to_vec(),
    })
}
