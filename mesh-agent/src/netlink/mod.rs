//! Talking to the kernel by netlink: `message` writes and reads messages, `socket` sends and receives them; `sock_diag`
//! finds and destroys sockets, `conntrack` reads the kernel's own flows and
//! `conntrack_timeouts` says how long it keeps them, `nftables` its packet filters, all else is of the routing family. Only the attributes that are asked for are looked at, so
//! that what a newer kernel adds breaks nothing.

mod conntrack;
mod conntrack_timeouts;
mod message;
pub(crate) mod nftables;
mod sock_diag;
mod socket;

pub(crate) use conntrack::{Translated, count_translated, translated};
pub(crate) use conntrack_timeouts::{TcpState, set_tcp_timeout};
pub(crate) use message::{Request, attributes, read_u16, read_u32};
pub(crate) use sock_diag::{Family, SockDiag, Transport};
pub(crate) use socket::{Hint, Socket, Subscription};

/// Kinds of messages, from uapi/linux/rtnetlink.h.
pub(crate) mod kind {
    pub(crate) const ERROR: u16 = 2;
    pub(crate) const DONE: u16 = 3;
    pub(crate) const NEWLINK: u16 = 16;
    pub(crate) const DELLINK: u16 = 17;
    pub(crate) const GETLINK: u16 = 18;
    pub(crate) const NEWADDR: u16 = 20;
    pub(crate) const GETADDR: u16 = 22;
    pub(crate) const NEWQDISC: u16 = 36;
    pub(crate) const DELQDISC: u16 = 37;
    pub(crate) const GETQDISC: u16 = 38;
    pub(crate) const NEWTFILTER: u16 = 44;
    pub(crate) const DELTFILTER: u16 = 45;
    pub(crate) const GETTFILTER: u16 = 46;
    pub(crate) const GETNSID: u16 = 90;
}

/// Flags of messages, from uapi/linux/netlink.h.
pub(crate) mod flag {
    pub(crate) const REQUEST: u16 = 1;
    pub(crate) const ACK: u16 = 4;
    /// What was dumped changed in the middle.
    pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const REPLACE: u16 = 0x100;
    pub(crate) const EXCLUSIVE: u16 = 0x200;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
}
