//! Who asks, from where, for what.

use std::net::IpAddr;

use crate::Protocol;

/// A client, as the node that decides sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A process of the node.
    Host,
    /// A Pod on the node.
    Pod,
    /// Anybody whose packets come to the node from elsewhere.
    Outside,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// From where.
    pub way: Way,
    /// Its own address, of the question's family.
    pub address: IpAddr,
}

/// A new connection, or a datagram of a new socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The node that decides.
    pub node: String,
    /// Who asks.
    pub client: Client,
    /// The address that is asked for.
    pub to: IpAddr,
    /// The port.
    pub port: u16,
    /// Over what.
    pub protocol: Protocol,
}
