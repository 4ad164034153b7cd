//! Sockets destroyed on the kernel this runs on: by the cookie that `peers` has of them, and no others. Needs root; skipped
//! without, failed in CI.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod kernel;

use std::{
    io::{ErrorKind, Read},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use kernel::{Place, service, write};
use mesh_agent::{
    datapath::Datapath,
    gone::{Destroyer, Doomed, Target, spared_by_kernel},
};
use mesh_common::Peer;

fn target(peer: &Peer) -> (u64, Target) {
    (peer.cookie(), Target::of(peer))
}

/// Whether the connection was ended, and how.
fn ended(stream: &TcpStream) -> Option<ErrorKind> {
    stream.set_nonblocking(true).unwrap();
    match { stream }.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => Some(error.kind()),
        Ok(_) => Some(ErrorKind::UnexpectedEof),
    }
}

#[test]
fn a_socket_is_destroyed_by_its_cookie_and_no_other_is() {
    let Some(place) = Place::enter("gone") else {
        return;
    };
    let mut datapath = Datapath::open(&place.options).unwrap().datapath;
    write(&mut datapath, &service(1, place.listen()));
    datapath.commit().unwrap();
    let through: Vec<TcpStream> = (0..3).map(|_| place.connect().unwrap()).collect();
    let direct = TcpStream::connect(place.listen()).unwrap();
    let reader = datapath.reader().unwrap();
    let connections = reader.connections().unwrap();
    let peers: Vec<Peer> = connections.peers().collect();
    assert_eq!(peers.len(), 3, "one that came directly is nobody's");
    for peer in &peers {
        let backend = reader.backend(peer.id()).unwrap().unwrap();
        assert_eq!(peer.backend(), (backend.address(), backend.word().port()));
    }
    let (first, second) = (target(&peers[0]), target(&peers[1]));
    let unknown = peers.iter().map(Peer::cookie).sum();
    // It is connected to another port than its entry says: it is another socket by now.
    let mut other = second.1;
    other.peer.1 ^= 1;
    let doomed = Doomed::from([first, (second.0, other), (unknown, first.1)]);
    let outcome = Destroyer::new(Vec::new()).destroy(doomed);
    assert!(outcome.errors.is_empty(), "{outcome:?}");
    assert_eq!((outcome.destroyed["tcp"], outcome.missing), (1, 2));
    let ends: Vec<_> = through.iter().filter_map(ended).collect();
    assert_eq!(ends, [ErrorKind::ConnectionAborted]);
    assert_eq!(ended(&direct), None);
}

/// What a node with many sockets pays: the kernel walks them, we do not.
#[test]
fn many_sockets_of_others_cost_little() {
    const OTHERS: usize = 300;
    const OURS: usize = 100;
    let Some(place) = Place::enter("many") else {
        return;
    };
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    let accepting = std::thread::spawn(move || {
        let accepted = server.incoming().take(OURS + OTHERS);
        accepted.collect::<Result<Vec<_>, _>>().unwrap()
    });
    let mut datapath = Datapath::open(&place.options).unwrap().datapath;
    write(&mut datapath, &service(1, to));
    datapath.commit().unwrap();
    let ours: Vec<TcpStream> = (0..OURS).map(|_| place.connect().unwrap()).collect();
    let others: Vec<_> = (0..OTHERS)
        .map(|_| TcpStream::connect(to).unwrap())
        .collect();
    let _accepted = accepting.join().unwrap();
    let began = Instant::now();
    let connections = datapath.reader().unwrap().connections().unwrap();
    let doomed: Doomed = connections.peers().map(|peer| target(&peer)).collect();
    let outcome = Destroyer::new(vec!["/run/netns".into()]).destroy(doomed);
    let took = began.elapsed();
    eprintln!(
        "{OURS} sockets among {} found and destroyed in {took:?}",
        OURS + OTHERS
    );
    assert_eq!(
        (outcome.destroyed["tcp"], outcome.missing),
        (OURS as u64, 0)
    );
    assert!(ours.iter().all(|stream| ended(stream).is_some()));
    assert!(others.iter().all(|stream| ended(stream).is_none()));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn this_kernel_destroys_sockets_of_both_protocols() {
    let Some(_place) = Place::enter("able") else {
        return;
    };
    let spared = spared_by_kernel();
    assert!(spared.is_empty(), "{spared:?}");
}
