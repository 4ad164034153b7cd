use std::net::Ipv4Addr;

use mesh_common::{BackendWord, Port};

use super::*;

fn at(host: u8) -> Address {
    Ipv4Addr::new(10, 1, 0, host).into()
}

const PORT: Port = Port::new(8080);

/// A socket, and the backend that has the id now: its address, state and generation. The socket chose generation 1.
fn socket(cookie: u64, host: u8, now: (u8, BackendState, u32)) -> (Peer, Option<Backend>) {
    let frontend = (Ipv4Addr::new(10, 96, 0, 1).into(), Port::new(80));
    let peer = Peer::new(cookie, frontend, (at(host), PORT), 5, 1).within(70);
    let backend = Backend::new(at(now.0), BackendWord::new(PORT, now.1, now.2));
    (peer, Some(backend))
}

fn cookies(look: &Look, sockets: &[(Peer, Option<Backend>)], alive: &[u8]) -> Vec<u64> {
    let alive = alive.iter().map(|host| at(*host)).collect();
    look.doomed(sockets, &alive).into_keys().collect()
}

#[test]
fn the_sockets_of_an_address_that_departed_are_doomed_and_no_others() {
    let mut look = Look::default();
    look.departed(at(2));
    look.taken_back(|_| true);
    let sockets = [
        socket(1, 2, (2, BackendState::Gone, 1)),
        socket(2, 3, (3, BackendState::Ready, 1)),
        // Another Service's backend at an address that lives: only its Service is gone.
        socket(3, 4, (4, BackendState::Gone, 1)),
        socket(4, 5, (5, BackendState::Draining, 1)),
    ];
    assert_eq!(cookies(&look, &sockets, &[]), [1]);
    let doomed = look.doomed(&sockets, &BTreeSet::new());
    assert_eq!(doomed[&1].peer, (at(2), 8080));
    assert_eq!(doomed[&1].netns, 70);
}

#[test]
fn only_sockets_of_who_departed_or_was_replaced_are_looked_at() {
    let mut look = Look::default();
    look.departed(at(2));
    look.replaced(BTreeSet::from([(at(3), 8080), (at(4), 1)]));
    let concerned = |host| look.concerns(&socket(1, host, (host, BackendState::Ready, 1)).0);
    assert_eq!([2, 3, 4, 5].map(concerned), [true, true, false, false]);
    assert!(Look::everything().concerns(&socket(1, 5, (5, BackendState::Ready, 1)).0));
}

#[test]
fn who_came_after_is_spared() {
    let mut look = Look::default();
    look.departed(at(2));
    look.taken_back(|_| true);
    let sockets = [
        // The id is its own, another's, the same address's again.
        socket(1, 2, (2, BackendState::Ready, 1)),
        socket(2, 2, (9, BackendState::Ready, 1)),
        socket(3, 2, (2, BackendState::Ready, 2)),
    ];
    assert_eq!(cookies(&look, &sockets, &[2]), [2, 3]);
}

#[test]
fn an_address_that_changed_hands_at_once_loses_all_the_sockets_of_before() {
    let mut look = Look::default();
    look.departed(at(2));
    look.came_back(|_| true);
    let sockets = [socket(1, 2, (2, BackendState::Ready, 1))];
    assert_eq!(cookies(&look, &sockets, &[2]), [1]);
    // A moment later it may be the new one's.
    assert!(cookies(&look.again(), &sockets, &[2]).is_empty());
}

#[test]
fn an_endpoint_that_another_pod_came_to_loses_its_sockets_once() {
    let sockets = [
        socket(1, 2, (2, BackendState::Ready, 1)),
        socket(2, 3, (3, BackendState::Ready, 1)),
    ];
    let mut look = Look::default();
    look.replaced(BTreeSet::from([(at(2), 8080), (at(3), 9090)]));
    let look = look.take();
    assert_eq!(cookies(&look, &sockets, &[2, 3]), [1]);
    assert!(look.again().is_empty());
}

#[test]
fn everything_is_what_nobody_has_any_more() {
    let sockets = [
        socket(1, 2, (2, BackendState::Gone, 1)),
        socket(2, 3, (3, BackendState::Gone, 1)),
        // Kept in force although no slice has it.
        socket(3, 4, (4, BackendState::Ready, 1)),
    ];
    let look = Look::everything();
    assert_eq!(look.questions(&sockets).len(), 3);
    assert_eq!(cookies(&look, &sockets, &[3]), [1]);
    assert!(Look::default().questions(&sockets).is_empty());
    let unknown = [(sockets[0].0, None)];
    assert_eq!(cookies(&look, &unknown, &[]), [1]);
}

#[test]
fn who_still_has_a_backend_waits() {
    let mut look = Look::everything();
    look.departed(at(2));
    look.departed(at(3));
    look.taken_back(|address| address == at(2));
    let first = look.take();
    assert!(first.everything && first.departed.len() == 1);
    assert!(!look.everything && look.departed.contains_key(&at(3)));
    assert!(look.take().is_empty());
    look.came_back(|_| true);
    assert_eq!(look.take().departed[&at(3)], Departure::Replaced);
    assert!(look.is_empty());
}
