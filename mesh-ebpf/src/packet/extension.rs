//! IPv6 extension headers: which protocol is behind them, and where (RFC 8200, 4). So many are walked, at most.

use super::state::Fragment;
use crate::Packet;

/// An upper-layer header.
#[derive(Clone, Copy)]
pub(super) struct Upper {
    /// IP protocol number.
    pub(super) protocol: u8,
    /// Offset from the start of the packet.
    pub(super) offset: u32,
}

/// What is behind the extension headers.
pub(super) struct Walked {
    pub(super) upper: Upper,
    pub(super) fragment: Fragment,
    pub(super) fragment_id: u32,
}

/// Of a packet.
pub(super) const MOST: u32 = 8;
/// Of the packet in an error, which the verifier would otherwise walk a quarter of a million instructions for.
pub(super) const MOST_INNER: u32 = 3;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// None when there are too many, or they end too early.
#[inline(always)]
pub(super) fn walk<const MOST: u32, P: Packet>(packet: &P, first: Upper) -> Option<Walked> {
    let mut walked = Walked {
        upper: first,
        fragment: Fragment::Whole,
        fragment_id: 0,
    };
    for _ in 0..MOST {
        let Upper { protocol, offset } = walked.upper;
        if !matches!(
            protocol,
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION
        ) {
            return Some(walked);
        }
        let header = packet.load::<8>(offset)?;
        let length = match protocol {
            FRAGMENT => {
                note_fragment(&mut walked, header);
                8
            }
            AUTHENTICATION => (u32::from(header[1]) + 2) * 4,
            _ => (u32::from(header[1]) + 1) * 8,
        };
        walked.upper = Upper {
            protocol: header[0],
            offset: offset + length,
        };
        // Behind the header of a later fragment is not a header but data.
        if walked.fragment == Fragment::Later {
            return Some(walked);
        }
    }
    let is_header = matches!(
        walked.upper.protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION
    );
    (!is_header).then_some(walked)
}

#[inline(always)]
fn note_fragment(walked: &mut Walked, header: [u8; 8]) {
    let word = u16::from_be_bytes([header[2], header[3]]);
    walked.fragment = match (word & 0xfff8, word & 1) {
        // RFC 6946: a fragment that is the whole packet.
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    };
    walked.fragment_id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
}
