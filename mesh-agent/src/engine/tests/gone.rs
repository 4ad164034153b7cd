//! Whose sockets are to be destroyed, as the engine says after each step: sockets of before over the tables of now.

use std::num::NonZeroU64;

use mesh_common::{Address, Peer, Port};

use super::*;
use crate::model::Object;

/// A world, and sockets that were connected in it.
struct Connected {
    world: World,
    peers: Vec<Peer>,
}

const NONE: [u64; 0] = [];
const SERVICE: &str = "service a/web ip=10.96.0.1 port=http/TCP/80";

fn address(text: &str) -> Address {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

impl Connected {
    /// A Service with two backends, and a socket connected to each: cookie 1 to 10.0.0.1, cookie 2 to 10.0.0.2.
    fn new() -> Self {
        let mut world = World::new(ROOMY);
        world.change(SERVICE);
        world.does("slice a/web-1 of=web port=http/TCP/8080 at=10.0.0.1 at=10.0.0.2");
        let mut connected = Self {
            world,
            peers: Vec::new(),
        };
        // Nothing is gone at a start like that.
        assert_eq!(connected.doomed(), NONE);
        connected.connect(1, "10.0.0.1");
        connected.connect(2, "10.0.0.2");
        connected
    }

    fn connect(&mut self, cookie: u64, to: &str) {
        let backends = &self.world.kernel().backends;
        let chosen = backends.iter().find(|(_, backend)| {
            backend.address() == address(to) && backend.word().state() == BackendState::Ready
        });
        let (id, backend) = chosen.unwrap();
        let word = backend.word();
        let asked = (address("10.96.0.1"), Port::new(80));
        let to = (backend.address(), word.port());
        self.peers
            .push(Peer::new(cookie, asked, to, *id, word.generation()));
    }

    /// The cookies of the sockets that are to be destroyed now.
    fn doomed(&mut self) -> Vec<u64> {
        let look = self.world.engine.take_gone();
        let backends = &self.world.engine.writer.backends;
        let peers = self.peers.iter();
        let sockets: Vec<_> = peers
            .map(|peer| (*peer, backends.get(&peer.id()).copied()))
            .collect();
        let mut alive = look.questions(&sockets);
        alive.retain(|address| self.world.engine.store().is_alive(*address));
        look.doomed(&sockets, &alive).into_keys().collect()
    }

    fn after(&mut self, lines: &[&str]) -> Vec<u64> {
        for line in lines {
            self.world.change(line);
        }
        self.world.step();
        self.doomed()
    }
}

#[test]
fn who_leaves_the_last_slice_is_gone() {
    let mut sockets = Connected::new();
    let left = "slice a/web-1 of=web port=http/TCP/8080 at=10.0.0.2";
    assert_eq!(sockets.after(&[left]), [1]);
    // It is said once.
    assert_eq!(sockets.after(&[left]), NONE);
    assert_eq!(sockets.after(&["remove slice a/web-1"]), [2]);
}

#[test]
fn whoever_is_named_anywhere_is_not_gone() {
    let mut sockets = Connected::new();
    let other = "slice b/other-1 of=other port=http/TCP/8080 at=10.0.0.1";
    let pod = "pod a/web-2 ip=10.0.0.2";
    assert_eq!(sockets.after(&[other, pod, "remove slice a/web-1"]), NONE);
    assert_eq!(sockets.after(&["remove service a/web"]), NONE);
    // Their Service is gone as well by now, and the ids may be another's.
    assert_eq!(
        sockets.after(&["pod a/web-2 ip=10.0.0.2 phase=Succeeded"]),
        [2]
    );
    assert_eq!(sockets.after(&["remove slice b/other-1"]), [1]);
}

/// The states of what the tables have at an address, by port.
fn states(world: &World, at: &str) -> Vec<(u16, BackendState)> {
    let backends = world.kernel().backends.values();
    let backends = backends.filter(|it| it.address() == address(at));
    let mut found: Vec<_> = backends
        .map(|it| (it.word().port().get(), it.word().state()))
        .collect();
    found.sort_unstable_by_key(|(port, _)| *port);
    found
}

#[test]
fn datagrams_follow_an_endpoint_to_another_port_and_connections_do_not() {
    for (protocol, old) in [("UDP", BackendState::Gone), ("TCP", BackendState::Draining)] {
        let mut world = World::new(ROOMY);
        world.change(&format!(
            "service a/web ip=10.96.0.1 port=http/{protocol}/80"
        ));
        let slice = |port: u16, unready: &str| {
            format!("slice a/web-1 of=web port=http/{protocol}/{port} at=10.0.0.1{unready}")
        };
        world.does(&slice(8080, ""));
        world.does(&slice(8080, ",unready"));
        // Unready, it keeps what it has.
        assert_eq!(states(&world, "10.0.0.1"), [(8080, BackendState::Draining)]);
        world.does(&slice(9090, ""));
        let both = [(8080, old), (9090, BackendState::Ready)];
        assert_eq!(states(&world, "10.0.0.1"), both, "{protocol}");
    }
}

#[test]
fn unready_and_terminating_ones_are_not_gone() {
    let mut sockets = Connected::new();
    let unready =
        "slice a/web-1 of=web port=http/TCP/8080 at=10.0.0.1,unready at=10.0.0.2,terminating";
    assert_eq!(sockets.after(&[unready]), NONE);
}

#[test]
fn an_address_that_comes_back_has_new_sockets() {
    let mut sockets = Connected::new();
    let all = "slice a/web-1 of=web port=http/TCP/8080 at=10.0.0.1 at=10.0.0.2";
    sockets
        .world
        .does("slice a/web-1 of=web port=http/TCP/8080 at=10.0.0.2");
    sockets.world.does(all);
    sockets.connect(3, "10.0.0.1");
    // Whoever asks late spares the new one.
    assert_eq!(sockets.doomed(), [1]);
    // Between two steps it leaves and comes back: nothing in the tables tells.
    assert_eq!(sockets.after(&["remove slice a/web-1", all]), [1, 2, 3]);
    assert_eq!(sockets.doomed(), NONE);
}

/// The slice's controller may tell of the end of one Pod and of the next one in a single change.
#[test]
fn another_pod_at_once_is_told_by_its_uid() {
    let mut sockets = Connected::new();
    let mut told = |uids: &[u64]| {
        let hosts = uids.iter().map(|_| " at=10.0.0.1").collect::<String>();
        let line = "slice a/web-1 of=web port=http/TCP/8080 at=10.0.0.2".to_owned() + &hosts;
        let Change::Put(Object::EndpointSlice(mut slice)) = words::change(&line) else {
            panic!("a slice is put");
        };
        for (endpoint, uid) in slice.endpoints.iter_mut().skip(1).zip(uids) {
            endpoint.pod = NonZeroU64::new(*uid);
        }
        let change = Change::Put(Object::EndpointSlice(slice));
        sockets.world.engine.submit([change]);
        sockets.world.engine.step();
        sockets.doomed()
    };
    assert_eq!(told(&[7]), NONE, "it may have been the same all along");
    assert_eq!(told(&[7]), NONE);
    assert_eq!(told(&[8]), [1]);
    assert_eq!(told(&[9, 8]), [1], "the one before is still named");
    assert_eq!(told(&[9]), NONE);
    assert_eq!(told(&[0]), NONE, "nobody says whose it is");
}

#[test]
fn who_left_while_the_agent_was_away_is_found_after_the_full_list() {
    let mut sockets = Connected::new();
    let left = "slice a/web-1 of=web port=http/TCP/8080 at=10.0.0.2";
    sockets.world.reference.apply(&words::change(left));
    sockets.world.watched = false;
    sockets.world.restart(|_| {});
    sockets.world.settle();
    assert_eq!(sockets.doomed(), [1]);
    assert_eq!(sockets.doomed(), NONE);
}

#[test]
fn nothing_is_gone_before_the_full_list_nor_while_something_cannot_be_read() {
    let mut sockets = Connected::new();
    let store = store();
    let applied = sockets.world.engine.applied.clone();
    let capacities = applied.capacities();
    let clock = sockets.world.clock.clone();
    let kernel = kernel::Kernel::new(clock.clone(), capacities);
    let before = std::mem::replace(
        &mut sockets.world.engine,
        Engine::new(store, applied, kernel, clock, SplitMix(1)),
    );
    sockets.world.engine.submit([words::change(SERVICE)]);
    sockets.world.engine.step();
    assert_eq!(sockets.world.engine.take_gone(), Look::default());
    sockets.world.engine = before;
    sockets.world.watched = false;
    sockets.world.engine.submit([Change::Incomplete(true)]);
    assert_eq!(sockets.after(&["remove slice a/web-1"]), NONE);
    sockets.world.engine.submit([Change::Incomplete(false)]);
    sockets.world.settle();
    assert_eq!(sockets.doomed(), [1, 2]);
}

/// What the tables still lead to may get new connections: their sockets go once it is taken back.
#[test]
fn a_backend_that_cannot_be_taken_back_keeps_its_sockets() {
    #[derive(Debug)]
    struct Always;
    impl kernel::Failure for Always {
        fn fails(&mut self) -> bool {
            true
        }
    }
    let mut sockets = Connected::new();
    sockets.world.watched = false;
    sockets.world.engine.writer.fails = Box::new(Always);
    assert_eq!(sockets.after(&["remove slice a/web-1"]), NONE);
    sockets.world.engine.writer.fails = Box::new(());
    sockets.world.settle();
    assert_eq!(sockets.doomed(), [1, 2]);
}
