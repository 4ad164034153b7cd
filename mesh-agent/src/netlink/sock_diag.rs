//! Sockets of a network namespace, found by whom they are connected to and destroyed one by one. A socket to be
//! destroyed is named by its cookie as well, so the kernel refuses if another has its addresses and ports by now.

use std::{collections::BTreeSet, io};

use mesh_common::Address;

use super::{
    Request, Socket, flag,
    message::{read_u16, read_u32},
};

/// From uapi/linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// inet_diag_sockid: ports, addresses, interface, cookie. In a message and in a request 4 and 8 bytes come before it.
const ID: usize = 48;
const ID_IN_MESSAGE: usize = 4;
const ID_IN_REQUEST: usize = 8;
const REQUEST: usize = ID_IN_REQUEST + ID;

/// Where in an id: the peer's port (network order) and address, and the two halves of the cookie.
const PEER_PORT: usize = 2;
const PEER_ADDRESS: usize = 20;
const COOKIE_LOW: usize = 40;
const COOKIE_HIGH: usize = 44;

/// The states of a socket that has a peer and a program, as bits: ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2,
/// CLOSE_WAIT, LAST_ACK, CLOSING. A connected UDP socket is ESTABLISHED.
const CONNECTED: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;

/// INET_DIAG_REQ_BYTECODE, and its operations.
const BYTECODE: u16 = 1;
const OP_JUMP: u8 = 1;
const OP_PEER: u8 = 8;
const OP: u16 = 4;

/// The kernel checks each jump of a filter by walking it from the start: beyond this number everything is dumped.
const MOST_FILTERED: usize = 64;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// As metrics and logs have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// The family of a socket. Those of the second speak IPv4 too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// AF_INET.
    V4,
    /// AF_INET6.
    V6,
}

impl Family {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    const fn number(self) -> u8 {
        match self {
            Self::V4 => AF_INET,
            Self::V6 => AF_INET6,
        }
    }
}

/// A socket that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connected {
    pub(crate) transport: Transport,
    pub(crate) cookie: u64,
    /// Whom it is connected to: address and port.
    pub(crate) peer: (Address, u16),
    family: u8,
    id: [u8; ID],
}

/// Asks about the sockets of one namespace.
#[derive(Debug)]
pub(crate) struct SockDiag(Socket);

impl SockDiag {
    /// In the namespace of this thread.
    pub(crate) fn open() -> io::Result<Self> {
        Socket::sock_diag().map(Self)
    }

    /// The sockets of a family that are connected to any of these addresses; maybe others too.
    pub(crate) fn connected_to(
        &mut self,
        transport: Transport,
        family: Family,
        peers: &BTreeSet<Address>,
    ) -> io::Result<Vec<Connected>> {
        let has_v4 = peers.iter().any(|address| address.is_v4());
        let v4_only = peers.iter().all(|address| address.is_v4());
        if peers.is_empty() || (family == Family::V4 && !has_v4) {
            return Ok(Vec::new());
        }
        let mut request = dump(transport, family);
        if peers.len() <= MOST_FILTERED {
            request = request.with(BYTECODE, &filter(peers));
        }
        let bodies = match self.0.dump(&request, SOCK_DIAG_BY_FAMILY) {
            // A kernel without IPv6 has no such sockets.
            Err(error) if is_unknown(&error) && family == Family::V6 && v4_only => Vec::new(),
            result => result?,
        };
        let found = bodies.iter().filter_map(|body| connected(transport, body));
        Ok(found.collect())
    }

    /// Destroys it: its program is given ECONNABORTED. False if it is not there any more.
    pub(crate) fn destroy(&mut self, socket: &Connected) -> io::Result<bool> {
        let mut body = [0; REQUEST];
        body[0] = socket.family;
        body[1] = socket.transport.number();
        body[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        body[ID_IN_REQUEST..].copy_from_slice(&socket.id);
        let request = Request::new(SOCK_DESTROY, flag::ACK, &body);
        match self.0.order(request) {
            Ok(()) => Ok(true),
            Err(error) if is_over(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// ENOENT: nothing has its addresses and ports; ESTALE: something else has; ENOTCONN: it is closed already.
fn is_over(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ESTALE | libc::ENOTCONN)
    )
}

fn is_unknown(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOENT)
}

fn dump(transport: Transport, family: Family) -> Request {
    let mut body = [0; REQUEST];
    body[0] = family.number();
    body[1] = transport.number();
    body[4..8].copy_from_slice(&CONNECTED.to_ne_bytes());
    Request::new(SOCK_DIAG_BY_FAMILY, flag::DUMP, &body)
}

/// Lets through what is connected to one of these. For each address a condition: if it holds, the next operation jumps to
/// the end, which is to let through; if not, that one is skipped. After the last a jump beyond the end says no.
fn filter(peers: &BTreeSet<Address>) -> Vec<u8> {
    let conditions: Vec<Vec<u8>> = peers.iter().copied().map(condition).collect();
    let mut left: usize = conditions.iter().map(|it| it.len() + usize::from(OP)).sum();
    left -= usize::from(OP);
    let mut code = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        let is_last = index + 1 == conditions.len();
        let length = size(condition.len());
        operation(&mut code, OP_PEER, length, length + OP);
        code.extend_from_slice(&condition[usize::from(OP)..]);
        left -= condition.len();
        if !is_last {
            operation(&mut code, OP_JUMP, OP, size(left));
            left -= usize::from(OP);
        }
    }
    code
}

fn operation(code: &mut Vec<u8>, kind: u8, yes: u16, no: u16) {
    code.extend_from_slice(&[kind, u8::try_from(yes).unwrap_or(u8::MAX)]);
    code.extend_from_slice(&no.to_ne_bytes());
}

fn size(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// Room for the operation, then inet_diag_hostcond: family, length of the prefix, any port, address.
fn condition(address: Address) -> Vec<u8> {
    let (family, octets) = if address.is_v4() {
        (AF_INET, address.v4_word().to_ne_bytes().to_vec())
    } else {
        let words = address.words();
        (
            AF_INET6,
            words.iter().flat_map(|it| it.to_ne_bytes()).collect(),
        )
    };
    let bits = u8::try_from(octets.len() * 8).unwrap_or(u8::MAX);
    let mut bytes = vec![0; usize::from(OP)];
    bytes.extend_from_slice(&[family, bits, 0, 0]);
    bytes.extend_from_slice(&(-1_i32).to_ne_bytes());
    bytes.extend(octets);
    bytes
}

/// A message of the kernel's: inet_diag_msg begins with family, state, timer, retransmissions and the id.
fn connected(transport: Transport, body: &[u8]) -> Option<Connected> {
    let id = body.get(ID_IN_MESSAGE..ID_IN_MESSAGE + ID)?;
    let family = *body.first()?;
    let word = |at| read_u32(id, PEER_ADDRESS + at);
    let address = match family {
        AF_INET => Address::from_v4_word(word(0)?),
        AF_INET6 => Address::from_words([word(0)?, word(4)?, word(8)?, word(12)?]),
        _ => return None,
    };
    let (low, high) = (read_u32(id, COOKIE_LOW)?, read_u32(id, COOKIE_HIGH)?);
    Some(Connected {
        transport,
        cookie: u64::from(high) << 32 | u64::from(low),
        peer: (address, u16::from_be(read_u16(id, PEER_PORT)?)),
        family,
        id: id.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests;
