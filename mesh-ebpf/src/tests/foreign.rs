//! Sockets whose datagrams another load balancer serves, until they are silent.

use mesh_common::{Port, Protocol};

use super::{World, connect, sendmsg};
use crate::{FOREIGN_SILENCE, Verdict, foreign_socket};

const SECOND: u64 = 1_000_000_000;

#[test]
fn datagrams_are_left_until_silence() {
    let world = World::new(false, 3, 2, 0);
    world.sim.clock.set(1000 * SECOND);
    let asked = world.socket(Protocol::Udp, 3, 11).peer;
    let key = foreign_socket(Port::new(40_000), asked);
    world.sim.foreign.borrow_mut().insert(key, 990);
    let mut socket = world.socket(Protocol::Udp, 3, 11);
    assert_eq!(sendmsg(&world.sim, &mut socket), Verdict::Pass);
    assert_eq!(socket.peer, asked);
    assert_eq!(world.sim.foreign.borrow()[&key], 1000, "it counts");
    let after = 1000 + u64::from(FOREIGN_SILENCE);
    world.sim.clock.set((after - 1) * SECOND);
    assert_eq!(sendmsg(&world.sim, &mut socket), Verdict::Pass);
    world.sim.clock.set((2 * after) * SECOND);
    assert_eq!(sendmsg(&world.sim, &mut socket), Verdict::Forward);
    // Who has a backend of ours keeps it, whatever is found later.
    world.sim.foreign.borrow_mut().insert(key, u32::MAX);
    socket.peer = asked;
    assert_eq!(sendmsg(&world.sim, &mut socket), Verdict::Forward);
}

#[test]
fn whoever_connects_anew_is_ours() {
    let world = World::new(true, 3, 2, 0);
    let mut socket = world.socket(Protocol::Udp, 3, 11);
    let key = foreign_socket(Port::new(40_000), socket.peer);
    world.sim.foreign.borrow_mut().insert(key, u32::MAX);
    assert_eq!(connect(&world.sim, &mut socket), Verdict::Forward);
}
