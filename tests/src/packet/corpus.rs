//! Packets of every kind, in the order in which hooks would see them: what a hook makes of a packet is the next hook's.

use mesh_common::Protocol;
use mesh_ebpf::{
    PacketHook, PacketVerdict,
    sim::{
        Sim, SimPacket,
        wire::{self, Datagram, Error, extension, tcp},
    },
};

use super::world::{End, PacketWorld};

/// A packet at a hook.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The hook.
    pub hook: PacketHook,
    /// The frame before it.
    pub frame: Vec<u8>,
    /// What it is.
    pub what: String,
}

/// The packets, in order.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// In the order in which they were seen.
    pub packets: Vec<Recorded>,
    sim: Sim,
}

type Way = [PacketHook; 2];

/// A flow's ends and ways.
struct Route {
    name: &'static str,
    client: End,
    frontend: End,
    there: Way,
    back: Way,
}

/// All of it, over tables without flows.
#[must_use]
pub fn corpus(world: &PacketWorld) -> Corpus {
    let mut corpus = Corpus {
        packets: Vec::new(),
        sim: world.sim.clone(),
    };
    let mut port = 20_000;
    for v6 in [false, true] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for route in routes(v6) {
                port += 1;
                corpus.flow(&route, protocol, port);
            }
            corpus.refusals(v6, protocol);
            corpus.crowd(v6, protocol);
        }
        corpus.strangers(v6);
        corpus.broken(v6);
    }
    corpus
}

fn routes(v6: bool) -> [Route; 7] {
    use PacketHook::{FromDevice, FromPod, ToDevice, ToPod};
    let nothing = mesh_common::Port::new(0);
    let route = |name, client, frontend, from: Way, to: Way| Route {
        name,
        client: (client, nothing),
        frontend,
        there: [from[0], to[1]],
        back: [to[0], from[1]],
    };
    let (pod, device) = ([FromPod, ToPod], [FromDevice, ToDevice]);
    let outside = PacketWorld::outside(v6, 1);
    let inside = PacketWorld::pod(v6, false);
    let plain = PacketWorld::cluster(v6, PacketWorld::PLAIN);
    let sticky = PacketWorld::cluster(v6, PacketWorld::STICKY);
    let own = PacketWorld::cluster(v6, PacketWorld::OWN);
    let node_port = PacketWorld::node_port(v6);
    [
        route("pod to local", inside, plain, pod, pod),
        route("pod to remote", inside, plain, pod, device),
        route("sticky", inside, sticky, pod, device),
        route("node port to local", outside, node_port, device, pod),
        route("node port to remote", outside, node_port, device, device),
        route(
            "balancer to remote",
            outside,
            PacketWorld::balancer(v6),
            device,
            device,
        ),
        route("hairpin", PacketWorld::pod(v6, true), own, pod, pod),
    ]
}

impl Corpus {
    /// One hook; gives what goes on.
    fn at(&mut self, hook: PacketHook, frame: &[u8], what: &str) -> Option<Vec<u8>> {
        self.packets.push(Recorded {
            hook,
            frame: frame.to_vec(),
            what: what.to_owned(),
        });
        let mut packet = SimPacket::new(frame.to_vec(), 1);
        match packet.pass(hook, &self.sim) {
            PacketVerdict::Pass | PacketVerdict::Forward => Some(packet.bytes),
            PacketVerdict::Drop(_) | PacketVerdict::Reflect(_) => None,
        }
    }

    fn send(&mut self, way: Way, frame: Vec<u8>, what: &str) -> Option<Vec<u8>> {
        let frame = self.at(way[0], &frame, what)?;
        self.at(way[1], &frame, what)
    }

    fn flow(&mut self, route: &Route, protocol: Protocol, port: u16) {
        let client = (route.client.0, mesh_common::Port::new(port));
        let datagram = |from, to, flags| match protocol {
            Protocol::Tcp => Datagram::tcp(from, to, flags),
            Protocol::Udp => Datagram::udp(from, to),
        };
        let name = route.name;
        let request = |flags| datagram(client, route.frontend, flags);
        let first = self.send(route.there, request(tcp::SYN).frame(), name);
        let Some(seen) = first.and_then(|frame| wire::parse(&frame)) else {
            return;
        };
        let (source, backend) = (seen.source, seen.destination);
        let reply = |flags| datagram(backend, source, flags);
        self.send(route.back, reply(tcp::SYN | tcp::ACK).frame(), name);
        for look in looks(route.client.0.is_v4()) {
            for flags in [tcp::ACK, tcp::FIN | tcp::ACK, tcp::RST] {
                self.send(route.there, look(request(flags)).frame(), name);
                self.send(route.back, look(reply(flags)).frame(), name);
            }
        }
        self.fragments(route.there, &request(tcp::ACK), port);
        self.fragments(route.back, &reply(tcp::ACK), port);
        self.errors(route, (client, source, backend), datagram);
    }

    fn fragments(&mut self, way: Way, datagram: &Datagram, id: u16) {
        for (number, is_in_order) in [(0_u32, true), (1, false)] {
            let mut datagram = datagram.clone().with(&[7; 150]);
            datagram.id = u32::from(id) << 1 | number;
            let mut parts = datagram.fragments(64);
            if !is_in_order {
                parts.reverse();
            }
            for part in parts {
                self.send(way, part, "fragment");
            }
        }
    }

    fn errors(
        &mut self,
        route: &Route,
        (client, source, backend): (End, End, End),
        datagram: impl Fn(End, End, u8) -> Datagram,
    ) {
        let v6 = !client.0.is_v4();
        let router = PacketWorld::outside(v6, 99);
        for error in [
            Error::TooBig(1280),
            Error::PortUnreachable,
            Error::TimeExceeded,
        ] {
            for look in looks(!v6) {
                let request = look(datagram(source, backend, tcp::ACK)).packet();
                let reply = look(datagram(route.frontend, client, tcp::ACK)).packet();
                for shown in [28, 48, 60, 1000] {
                    for from in [router, backend.0] {
                        let frame = error.frame(from, source.0, &request, shown);
                        self.send(route.back, frame, "error about a request");
                    }
                    let frame = error.frame(router, route.frontend.0, &reply, shown);
                    self.send(route.there, frame, "error about a reply");
                    let frame = error.frame(client.0, client.0, &reply, shown);
                    self.send(route.there, frame, "error to somebody else");
                }
            }
        }
    }

    fn refusals(&mut self, v6: bool, protocol: Protocol) {
        let client = (PacketWorld::outside(v6, 2), mesh_common::Port::new(5000));
        let (address, _) = PacketWorld::cluster(v6, PacketWorld::PLAIN);
        let frontends = [
            PacketWorld::cluster(v6, PacketWorld::EMPTY),
            (address, mesh_common::Port::new(81)),
            PacketWorld::balancer(v6),
        ];
        for to in frontends {
            for look in looks(!v6) {
                let datagram = match protocol {
                    Protocol::Tcp => Datagram::tcp(client, to, tcp::SYN),
                    Protocol::Udp => Datagram::udp(client, to),
                };
                for hook in PacketHook::ALL {
                    self.at(hook, &look(datagram.clone()).frame(), "refused");
                }
            }
        }
    }

    /// One port of a client's by three frontends of the same backends: no two may have the same replies.
    fn crowd(&mut self, v6: bool, protocol: Protocol) {
        let frontends = [
            PacketWorld::cluster(v6, PacketWorld::PLAIN),
            PacketWorld::node_port(v6),
            PacketWorld::balancer(v6),
        ];
        // Far apart: half-open flows of neighbouring ports would push each other out.
        for port in (25_000..25_400).step_by(100) {
            let client = (PacketWorld::outside(v6, 1), mesh_common::Port::new(port));
            for to in frontends {
                let datagram = match protocol {
                    Protocol::Tcp => Datagram::tcp(client, to, tcp::SYN),
                    Protocol::Udp => Datagram::udp(client, to),
                };
                self.at(PacketHook::FromDevice, &datagram.frame(), "one of three");
            }
        }
    }

    fn strangers(&mut self, v6: bool) {
        let port = mesh_common::Port::new(80);
        let (from, to) = (
            (PacketWorld::outside(v6, 3), port),
            (PacketWorld::outside(v6, 4), port),
        );
        let frontend = PacketWorld::cluster(v6, PacketWorld::PLAIN);
        let echo = vec![if v6 { 128 } else { 8 }, 0, 0, 0, 0, 1, 0, 1];
        let mut arp = wire::frame(vec![0; 28]);
        arp[12..14].copy_from_slice(&[8, 6]);
        let frames = [
            Datagram::tcp(from, to, tcp::SYN).frame(),
            Datagram::udp(from, to).frame(),
            Datagram::tcp(from, frontend, tcp::ACK).frame(),
            Datagram::tcp(from, frontend, tcp::SYN | tcp::ACK).frame(),
            Datagram::tcp(from, frontend, tcp::RST).frame(),
            wire::frame(wire::icmp_packet(from.0, frontend.0, echo)),
            arp,
        ];
        for frame in frames {
            for hook in PacketHook::ALL {
                self.at(hook, &frame, "stranger");
            }
        }
    }

    /// Headers that contradict each other or end too early.
    fn broken(&mut self, v6: bool) {
        let client = (PacketWorld::outside(v6, 5), mesh_common::Port::new(5001));
        let frontend = PacketWorld::cluster(v6, PacketWorld::PLAIN);
        let whole = Datagram::tcp(client, frontend, tcp::SYN).with(b"data");
        // Version, header length, both bytes of the length, protocol, the fragment word, and TCP's header length.
        let places: &[usize] = if v6 {
            &[14, 18, 19, 20, 66]
        } else {
            &[14, 16, 17, 20, 21, 23, 46]
        };
        for place in places {
            for byte in [0, 1, 0x20, 0x40, 0x44, 0x4f, 0x60, 44, 50, 132, 0xff] {
                let mut frame = whole.frame();
                frame[*place] = byte;
                for hook in PacketHook::ALL {
                    self.at(hook, &frame, "broken");
                }
            }
        }
        for part in Datagram::tcp(client, frontend, tcp::SYN).fragments(8) {
            self.at(PacketHook::FromPod, &part, "a part of the header");
        }
        let mut many = Datagram::udp(client, frontend);
        for _ in 0..10 {
            many.extensions.push((extension::DESTINATION, 0));
            self.at(PacketHook::FromPod, &many.frame(), "many headers");
        }
    }
}

/// What packets may have beside addresses and ports.
fn looks(is_v4: bool) -> Vec<fn(Datagram) -> Datagram> {
    let plain: fn(Datagram) -> Datagram = |datagram| datagram;
    let mut looks: Vec<fn(Datagram) -> Datagram> =
        vec![plain, |datagram| datagram.with(b"some data")];
    looks.push(|mut datagram| {
        datagram.no_checksum = datagram.protocol == Protocol::Udp;
        datagram
    });
    if is_v4 {
        looks.push(|mut datagram| {
            datagram.option_words = 3;
            datagram
        });
        looks.push(|mut datagram| {
            datagram.option_words = 10;
            datagram.with(&[1; 33])
        });
        return looks;
    }
    looks.push(|mut datagram| {
        datagram.extensions = vec![(extension::HOP_BY_HOP, 0), (extension::DESTINATION, 2)];
        datagram
    });
    looks.push(|mut datagram| {
        datagram.extensions = vec![(extension::ROUTING, 1), (extension::AUTHENTICATION, 1)];
        datagram.with(&[1; 33])
    });
    looks
}
