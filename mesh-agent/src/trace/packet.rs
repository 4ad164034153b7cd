//! What the packet path would do with a packet, step by step, as `trace` does it for a call.

use std::net::SocketAddr;

use mesh_common::{Address, Direction, FlowKey, Port, Protocol, Reason};
use mesh_ebpf::{
    PacketHook, PacketStage, PacketState, PacketStep, PacketVerdict,
    sim::{
        Sim, SimPacket, TracedPacket, trace_packet,
        wire::{self, Datagram},
    },
};

use super::{Answer, StepText, left, refusal};

/// The packet to trace: it has no data.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Where it is seen.
    pub hook: PacketHook,
    /// The kernel's number of the interface.
    pub interface: u32,
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// TCP's flags, as in the header.
    pub flags: u8,
    /// Seed of the random choice of a source port.
    pub seed: u64,
    /// Nanoseconds of the monotonic clock.
    pub now: u64,
}

/// Runs the packet through the datapath. Its addresses are of one family.
#[must_use]
pub fn run(sim: &Sim, packet: &Packet) -> Answer {
    sim.seed.set(packet.seed);
    sim.clock.set(packet.now);
    let end = |at: SocketAddr| (Address::from(at.ip()), Port::new(at.port()));
    let (from, to) = (end(packet.from), end(packet.to));
    let datagram = match packet.protocol {
        Protocol::Tcp => Datagram::tcp(from, to, packet.flags),
        Protocol::Udp => Datagram::udp(from, to),
    };
    let flow = FlowKey::new(Direction::Ingress, packet.protocol, from, to);
    let is_service = sim.frontends.contains_key(&flow.frontend());
    let left = is_service.then(|| left(sim, &flow)).flatten();
    let mut frame = SimPacket::new(wire::frame(datagram.packet()), packet.interface);
    let was_opening = sim.opening.borrow().contains_key(&flow);
    let walked = trace_packet(packet.hook, sim, &mut frame);
    let told = Told {
        left,
        is_confirmed: was_opening && sim.flows.borrow().contains_key(&flow),
    };
    let (verdict, state) = match walked.last() {
        Some(last) => (last.step, last.state),
        None => (
            PacketStep::Done(PacketVerdict::Drop(Reason::Inconsistent)),
            PacketState::new(packet.hook, frame.link.length()),
        ),
    };
    let (word, reason) = match verdict {
        PacketStep::Done(PacketVerdict::Pass) => ("pass", None),
        PacketStep::Done(PacketVerdict::Forward) => ("forward", None),
        PacketStep::Done(PacketVerdict::Drop(reason)) => ("drop", Some(reason)),
        PacketStep::Done(PacketVerdict::Reflect(reason)) => ("refuse", Some(reason)),
        PacketStep::Next(_) => ("drop", Some(Reason::Inconsistent)),
    };
    Answer {
        steps: walked.iter().map(|step| describe(step, &told)).collect(),
        verdict: word,
        reason,
        target: match word {
            "forward" => address(state.target),
            _ => packet.to,
        },
    }
}

fn address((address, port): (Address, Port)) -> SocketAddr {
    (address.to_ip(), port.get()).into()
}

/// What the steps do not say.
struct Told {
    /// Why a packet for a Service is left alone.
    left: Option<String>,
    /// Whether the packet is the one that confirms its flow.
    is_confirmed: bool,
}

fn describe(traced: &TracedPacket, told: &Told) -> StepText {
    let state = &traced.state;
    let text = match (traced.stage, traced.step) {
        (_, PacketStep::Done(PacketVerdict::Drop(reason) | PacketVerdict::Reflect(reason))) => {
            refusal(reason).to_owned()
        }
        (PacketStage::Parse, PacketStep::Next(_)) => tuple(&state.key),
        (PacketStage::Parse | PacketStage::Icmp, _) => "nothing that is translated".to_owned(),
        (PacketStage::Conntrack, PacketStep::Next(PacketStage::Open)) => {
            "of no flow that is known: it may open one".to_owned()
        }
        (PacketStage::Conntrack, PacketStep::Next(PacketStage::Confirm)) => {
            "of a half-open flow".to_owned()
        }
        (PacketStage::Conntrack, PacketStep::Next(PacketStage::Source)) => {
            "of a flow that needs a source here".to_owned()
        }
        (PacketStage::Conntrack, PacketStep::Next(_)) if told.is_confirmed => {
            let written = written(state);
            format!("both sides have spoken: the flow is confirmed; {written}")
        }
        (PacketStage::Conntrack, PacketStep::Next(_)) => {
            format!("of a flow that is known: {}", written(state))
        }
        (PacketStage::Conntrack, _) => "of no flow that is known, and it opens none".to_owned(),
        (PacketStage::Open | PacketStage::Choose, PacketStep::Next(PacketStage::Refuse)) => {
            refusal(state.reason).to_owned()
        }
        (PacketStage::Open, PacketStep::Next(PacketStage::Choose)) => {
            "of a Service; the first choice is gone, or not all entries are new and together"
                .to_owned()
        }
        (PacketStage::Open, PacketStep::Next(_)) | (PacketStage::Enter, _) => {
            format!("a flow begins: {}", written(state))
        }
        (PacketStage::Open, _) => {
            let left = told.left.as_deref();
            left.unwrap_or("the destination is no Service's").to_owned()
        }
        (PacketStage::Choose, _) => "a backend that is free to answer".to_owned(),
        (PacketStage::Confirm, _) if told.is_confirmed => {
            "both sides have spoken: the flow is confirmed".to_owned()
        }
        (PacketStage::Confirm, _) => "the flow stays half-open".to_owned(),
        (PacketStage::Source, _) => format!("{} stands for the client", address(state.target)),
        (PacketStage::Rewrite, _) => written(state),
        (PacketStage::Refuse, _) => "the sender is told".to_owned(),
    };
    StepText {
        stage: traced.stage.name(),
        text,
    }
}

fn tuple(key: &FlowKey) -> String {
    format!(
        "{} to {}",
        address(key.source()),
        address(key.destination())
    )
}

fn written(state: &PacketState) -> String {
    let end = match state.hook {
        PacketHook::FromPod | PacketHook::FromDevice => "destination",
        PacketHook::ToPod | PacketHook::ToDevice => "source",
    };
    format!("the {end} becomes {}", address(state.target))
}

#[cfg(test)]
mod tests {
    use mesh_common::{
        Backend, BackendState, BackendWord, FrontendKey, FrontendValue, Interface, SetWord,
    };
    use mesh_ebpf::SnatPorts;

    use super::*;

    fn sim() -> Sim {
        let mut sim = Sim::default();
        let frontend = std::net::Ipv4Addr::new(10, 96, 0, 1).into();
        let key = FrontendKey::new(frontend, Port::new(80), 6);
        sim.frontends.insert(key, FrontendValue::new(1, 1, 0));
        let whole = FrontendKey::whole_address(frontend);
        sim.frontends.insert(whole, FrontendValue::refuse());
        sim.sets.insert(1, SetWord::new(1, 1));
        sim.slots.insert(1, 7);
        let word = BackendWord::new(Port::new(8080), BackendState::Ready, 1);
        let backend = std::net::Ipv4Addr::new(10, 244, 1, 2).into();
        sim.backends.insert(7, Backend::new(backend, word));
        sim
    }

    fn packet(to: &str) -> Packet {
        Packet {
            hook: PacketHook::FromPod,
            interface: 1,
            from: "10.244.0.9:40000".parse().unwrap(),
            to: to.parse().unwrap(),
            protocol: Protocol::Tcp,
            flags: 2,
            seed: 0,
            now: 0,
        }
    }

    fn stages(answer: &Answer) -> Vec<&'static str> {
        answer.steps.iter().map(|step| step.stage).collect()
    }

    #[test]
    fn a_first_packet_opens_a_flow() {
        let answer = run(&sim(), &packet("10.96.0.1:80"));
        assert_eq!(stages(&answer), ["parse", "conntrack", "open", "rewrite"]);
        assert_eq!(answer.verdict, "forward");
        assert_eq!(answer.target, "10.244.1.2:8080".parse().unwrap());
    }

    #[test]
    fn the_packet_after_the_answer_confirms_the_flow() {
        for is_quick in [true, false] {
            let mut sim = sim();
            sim.has_quick_lines = is_quick;
            let again = Packet {
                flags: 16,
                ..packet("10.96.0.1:80")
            };
            let reply = Packet {
                hook: PacketHook::ToPod,
                from: "10.244.1.2:8080".parse().unwrap(),
                flags: 18,
                ..packet("10.244.0.9:40000")
            };
            assert_eq!(run(&sim, &packet("10.96.0.1:80")).verdict, "forward");
            let unanswered = run(&sim, &again);
            let text = |answer: &Answer| {
                let known = answer.steps.iter().rev().nth(1).unwrap();
                (known.stage, known.text.clone())
            };
            if is_quick {
                assert!(text(&unanswered).1.starts_with("of a flow that is known"));
            } else {
                let stays = ("confirm", "the flow stays half-open".to_owned());
                assert_eq!(text(&unanswered), stays);
            }
            assert_eq!(run(&sim, &reply).target, "10.96.0.1:80".parse().unwrap());
            let (stage, says) = text(&run(&sim, &again));
            assert_eq!(stage, if is_quick { "conntrack" } else { "confirm" });
            assert!(says.starts_with("both sides have spoken: the flow is confirmed"));
            let (_, says) = text(&run(&sim, &again));
            assert!(says.starts_with("of a flow that is known"), "{says}");
        }
    }

    #[test]
    fn a_flow_that_does_not_fit_in_one_place() {
        let mut sim = sim();
        sim.has_quick_lines = false;
        let answer = run(&sim, &packet("10.96.0.1:80"));
        let way = ["parse", "conntrack", "open", "choose", "enter", "rewrite"];
        assert_eq!((stages(&answer), answer.verdict), (way.to_vec(), "forward"));
        assert!(answer.steps[4].text.contains("10.244.1.2:8080"));
    }

    /// A packet from outside to a frontend whose backend is elsewhere: as it comes in and as it leaves.
    fn passed_on(sim: &mut Sim, flags: u8) -> [Answer; 2] {
        for value in sim.frontends.values_mut() {
            *value = value.external();
        }
        let node = std::net::Ipv4Addr::new(192, 0, 2, 1).into();
        let interface = Interface::new(node, Address::UNSPECIFIED);
        sim.interfaces.insert(1, interface);
        let came = Packet {
            hook: PacketHook::FromDevice,
            from: "198.51.100.1:40000".parse().unwrap(),
            flags,
            ..packet("10.96.0.1:80")
        };
        let leaves = Packet {
            hook: PacketHook::ToDevice,
            to: "10.244.1.2:8080".parse().unwrap(),
            ..came
        };
        [came, leaves].map(|packet| run(sim, &packet))
    }

    #[test]
    fn a_source_is_one_of_the_ports_that_stand_for_clients() {
        let ports = |first, last| SnatPorts {
            first,
            last,
            ..SnatPorts::default()
        };
        let mut sim = sim();
        (sim.snat_ports, sim.quiet_snat_ports) = (ports(2000, 2009), ports(2000, 2004));
        let [came, left] = passed_on(&mut sim, 2);
        assert_eq!((came.verdict, left.verdict), ("forward", "forward"));
        assert!(stages(&left).contains(&"source"), "{left:?}");
        assert_eq!(left.target.ip(), std::net::Ipv4Addr::new(192, 0, 2, 1));
        assert!((2000..=2004).contains(&left.target.port()), "{left:?}");
    }

    #[test]
    fn a_flow_with_a_source_for_which_there_is_no_room_is_refused() {
        let mut sim = sim();
        sim.flows_capacity = 3;
        let [_, left] = passed_on(&mut sim, 2);
        let answer = |hook, from: &str, to: SocketAddr| Packet {
            hook,
            from: from.parse().unwrap(),
            to,
            flags: 18,
            ..packet("10.96.0.1:80")
        };
        let replied = answer(PacketHook::FromDevice, "10.244.1.2:8080", left.target);
        assert_eq!(run(&sim, &replied).verdict, "forward");
        let client = "198.51.100.1:40000".parse().unwrap();
        let replied = answer(PacketHook::ToDevice, "10.244.1.2:8080", client);
        assert_eq!(run(&sim, &replied).verdict, "forward");
        let [refused, _] = passed_on(&mut sim, 16);
        assert_eq!(refused.reason, Some(Reason::FlowsFull), "{refused:?}");
    }

    #[test]
    fn a_port_that_is_not_there_is_refused() {
        let answer = run(&sim(), &packet("10.96.0.1:81"));
        assert_eq!(stages(&answer), ["parse", "conntrack", "open", "refuse"]);
        assert_eq!(
            (answer.verdict, answer.reason),
            ("refuse", Some(Reason::NoSuchPort))
        );
    }

    #[test]
    fn a_datagram_of_a_flow_that_kube_proxy_began_is_left_to_it() {
        let mut sim = sim();
        let key = FrontendKey::new(
            std::net::Ipv4Addr::new(10, 96, 0, 1).into(),
            Port::new(80),
            17,
        );
        sim.frontends.insert(key, FrontendValue::new(1, 1, 0));
        let mut datagram = packet("10.96.0.1:80");
        datagram.protocol = Protocol::Udp;
        datagram.now = 1000 * 1_000_000_000;
        let end = |at: SocketAddr| (Address::from(at.ip()), Port::new(at.port()));
        let (from, to) = (end(datagram.from), end(datagram.to));
        let flow = FlowKey::new(Direction::Ingress, Protocol::Udp, from, to);
        sim.foreign.borrow_mut().insert(flow, 975);
        let answer = run(&sim, &datagram);
        assert_eq!((answer.verdict, answer.reason), ("pass", None));
        let last = answer.steps.last().unwrap();
        assert_eq!(last.stage, "open");
        assert!(last.text.contains("25 s, so for 5 s more"), "{last:?}");
        datagram.from.set_port(1);
        assert_eq!(run(&sim, &datagram).verdict, "forward");
    }

    #[test]
    fn a_host_port_at_loopback_is_nothing_that_kube_proxy_began() {
        let mut sim = sim();
        let key = FrontendKey::new(Address::LOOPBACK[0], Port::new(80), 6);
        let value = FrontendValue::new(1, 1, 0).external().for_host();
        sim.frontends.insert(key, value);
        let answer = run(&sim, &packet("127.0.0.1:80"));
        assert_eq!(answer.verdict, "pass");
        let last = answer.steps.last().unwrap();
        assert_eq!(last.text, "the destination is no Service's");
    }

    #[test]
    fn what_is_no_service_s_passes() {
        let answer = run(&sim(), &packet("192.0.2.1:80"));
        assert_eq!((answer.verdict, answer.reason), ("pass", None));
        let mut packet = packet("10.96.0.1:80");
        packet.flags = 16;
        assert_eq!(stages(&run(&sim(), &packet)), ["parse", "conntrack"]);
    }
}
