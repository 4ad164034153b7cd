//! How long the kernel's own conntrack remembers connections that nothing else is said about, set by netlink: a container
//! may have that right where /proc/sys is closed to it.

use std::io;

use super::{Request, Socket, conntrack::BODY, flag};

/// From uapi/linux/netfilter/nfnetlink_cttimeout.h: subsystem 8, and IPCTNL_MSG_TIMEOUT_DEFAULT_SET in it.
const DEFAULT_SET: u16 = 8 << 8 | 3;

const L3_PROTOCOL: u16 = 2;
const L4_PROTOCOL: u16 = 3;
const DATA: u16 = 4;

/// The timeouts are of both families, but one has to be named.
const AF_INET: u16 = 2;
const TCP: u8 = 6;

/// A state of TCP connections, by the attribute that has its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpState {
    Established = 3,
    CloseWait = 5,
}

/// Sets the timeout of a state in this thread's namespace.
pub(crate) fn set_tcp_timeout(state: TcpState, seconds: u32) -> io::Result<()> {
    let request = Request::new(DEFAULT_SET, flag::ACK, &BODY)
        .with(L3_PROTOCOL, &AF_INET.to_be_bytes())
        .with(L4_PROTOCOL, &[TCP])
        .with_nested(DATA, |data| data.with(state as u16, &seconds.to_be_bytes()));
    Socket::netfilter()?.order(request)
}
