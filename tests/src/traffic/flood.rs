//! `flood`: TCP connections that are asked for and never made, from addresses that are nobody's (198.18.0.0/15, RFC 2544).

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd},
};

use anyhow::{Result, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use super::{call::CallArgs, report::Report, until::Pace};

const IP: usize = 20;
const TCP: usize = 20;

pub(super) fn flood(args: &CallArgs) -> Result<Report> {
    let SocketAddr::V4(_) = args.target(0) else {
        bail!("flood is for IPv4 alone");
    };
    // With IPPROTO_RAW what is written begins with its IP header (raw(7)); it takes CAP_NET_RAW.
    let raw = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )?;
    args.in_parallel(|until| {
        let mut report = Report::default();
        let mut pace = Pace::default();
        let mut random = 0x9e37_79b9;
        while until.next(&mut pace) {
            let to = args.target(report.attempts);
            report.attempts += 1;
            match send(&raw, to, next(&mut random)) {
                Ok(()) => report.answered += 1,
                // A full queue of the device: the next one may fit.
                Err(nix::Error::ENOBUFS) => {}
                Err(error) => report.fail_with(&error.into()),
            }
        }
        report
    })
}

/// Marsaglia's xorshift: each number but 0 once before one comes again.
const fn next(random: &mut u32) -> u32 {
    *random ^= *random << 13;
    *random ^= *random >> 17;
    *random ^= *random << 5;
    *random
}

fn send(raw: &OwnedFd, to: SocketAddr, random: u32) -> nix::Result<()> {
    let IpAddr::V4(address) = to.ip() else {
        return Err(nix::Error::EAFNOSUPPORT);
    };
    let packet = syn(SocketAddrV4::new(address, to.port()), random);
    let to = SockaddrIn::from(SocketAddrV4::new(address, 0));
    sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty()).map(drop)
}

/// A SYN from an address and a port that the number says. The kernel fills in length and checksum of the IP header.
fn syn(to: SocketAddrV4, random: u32) -> [u8; IP + TCP] {
    let source = Ipv4Addr::from(0xc612_0000 | random & 0x0001_ffff);
    let port = 1024 + (random >> 17) as u16;
    let mut packet = [0; IP + TCP];
    packet[0] = 0x45;
    packet[8] = 64;
    packet[9] = 6;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    let header = &mut packet[IP..];
    header[0..2].copy_from_slice(&port.to_be_bytes());
    header[2..4].copy_from_slice(&to.port().to_be_bytes());
    header[4..8].copy_from_slice(&random.to_be_bytes());
    header[12] = 5 << 4;
    header[13] = 2;
    header[14..16].copy_from_slice(&[0xff, 0xff]);
    let checksum = checksum(&packet);
    packet[IP + 16..IP + 18].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// TCP's, with its pseudo header (RFC 9293, 3.1). The checksum's own field is still zero.
fn checksum(packet: &[u8; IP + TCP]) -> u16 {
    let pairs = packet[12..].chunks_exact(2);
    let words = pairs.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum = words.sum::<u32>() + 6 + TCP as u32;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syn_sums_up() {
        let mut packet = syn(
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80),
            12_345_678,
        );
        assert_eq!(packet[12..14], [198, 18]);
        assert_ne!(packet[IP + 16..IP + 18], [0, 0]);
        // With the checksum in its place the sum is all ones, and its complement nothing.
        assert_eq!(checksum(&packet), 0);
        packet[12] ^= 1;
        assert_ne!(checksum(&packet), 0);
    }
}
