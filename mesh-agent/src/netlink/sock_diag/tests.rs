use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
};

use super::*;

fn address(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

/// What inet_diag_bc_run makes of a socket with this peer.
fn passes(code: &[u8], peer: Address) -> bool {
    let mut left = i64::try_from(code.len()).unwrap();
    while left > 0 {
        let at = code.len() - usize::try_from(left).unwrap();
        let no = i64::from(read_u16(code, at + 2).unwrap());
        let holds = code[at] == OP_PEER && {
            let length = usize::from(code[at + 5] / 8);
            let octets = &code[at + 12..at + 12 + length];
            match peer.to_ip() {
                IpAddr::V4(own) => octets == own.octets(),
                IpAddr::V6(own) => octets == own.octets(),
            }
        };
        left -= if holds { i64::from(code[at + 1]) } else { no };
    }
    left == 0
}

#[test]
fn a_filter_lets_its_addresses_through_and_no_other() {
    let all = ["10.1.0.1", "10.1.0.2", "fd00::1", "fd00::2", "10.1.0.3"];
    for count in 1..=all.len() {
        let peers: BTreeSet<Address> = all[..count].iter().map(|it| address(it)).collect();
        let code = filter(&peers);
        for (index, other) in all.iter().enumerate() {
            assert_eq!(
                passes(&code, address(other)),
                index < count,
                "{count} {other}"
            );
        }
        assert!(!passes(&code, address("10.1.0.9")));
    }
}

#[test]
fn a_message_is_read() {
    let mut body = vec![0; 72];
    body[0] = AF_INET;
    body[4 + 2..4 + 4].copy_from_slice(&8080_u16.to_be_bytes());
    body[4 + 20..4 + 24].copy_from_slice(&[10, 1, 0, 2]);
    body[4 + 40..4 + 44].copy_from_slice(&7_u32.to_ne_bytes());
    body[4 + 44..4 + 48].copy_from_slice(&1_u32.to_ne_bytes());
    let found = connected(Transport::Tcp, &body).unwrap();
    assert_eq!(found.peer, (address("10.1.0.2"), 8080));
    assert_eq!(found.cookie, (1 << 32) + 7);
    for end in 0..4 + ID {
        assert_eq!(connected(Transport::Tcp, &body[..end]), None, "{end}");
    }
    body[0] = 1;
    assert_eq!(connected(Transport::Tcp, &body), None, "no family of ours");
}

/// Asking needs no privilege.
#[test]
fn the_kernel_takes_filters_of_any_length() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    let client = TcpStream::connect(to).unwrap();
    let cookie = crate::datapath::socket_cookie(client.as_fd()).unwrap();
    for others in [0, 1, MOST_FILTERED - 1, MOST_FILTERED] {
        let number = |it: usize| IpAddr::from([10, 9, 0, u8::try_from(it).unwrap()]);
        let mut peers: BTreeSet<Address> = (0..others).map(|it| number(it).into()).collect();
        peers.insert(address("fd00::9"));
        peers.insert(to.ip().into());
        let found = SockDiag::open().unwrap();
        let found = { found }.connected_to(Transport::Tcp, Family::V4, &peers);
        let found = found.unwrap();
        let ours = found.iter().find(|it| it.cookie == cookie).unwrap();
        assert_eq!(ours.peer, (to.ip().into(), to.port()));
    }
    let strangers = BTreeSet::from([address("10.9.0.1")]);
    let found = SockDiag::open()
        .unwrap()
        .connected_to(Transport::Tcp, Family::V4, &strangers);
    assert_eq!(found.unwrap(), []);
}

#[test]
fn connected_udp_sockets_of_both_families_are_found() {
    let to: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let (v4, v6) = (UdpSocket::bind("0.0.0.0:0"), UdpSocket::bind("[::]:0"));
    let (v4, v6) = (v4.unwrap(), v6.unwrap());
    v4.connect(to).unwrap();
    v6.connect("[::ffff:127.0.0.1]:9").unwrap();
    let peers = BTreeSet::from([to.ip().into()]);
    for (family, socket) in Family::ALL.into_iter().zip([&v4, &v6]) {
        let found = SockDiag::open()
            .unwrap()
            .connected_to(Transport::Udp, family, &peers)
            .unwrap();
        let cookie = crate::datapath::socket_cookie(socket.as_fd()).unwrap();
        let ours = found.iter().find(|it| it.cookie == cookie).unwrap();
        assert_eq!(ours.peer, (to.ip().into(), 9));
    }
}
