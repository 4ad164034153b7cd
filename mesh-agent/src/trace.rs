//! What the datapath would do with a call, step by step: the live tables in, the stages' words out. It runs the
//! datapath's own code over a copy of the maps, so it cannot say anything else than the kernel.

use std::{cell::RefCell, collections::BTreeMap};

use mesh_common::{BackendState, Client, FlowKey, FlowValue, Port, Protocol, Reason};
use mesh_ebpf::{
    Clock, FOREIGN_SILENCE, Hook, Stage, State, Step, Verdict, foreign_socket,
    sim::{Sim, SimSocket, Traced, trace},
};

use crate::telemetry::dump::Live;

pub mod packet;

/// The call to trace.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// connect for TCP and connected UDP, sendmsg for unconnected UDP.
    pub hook: Hook,
    /// Where the program wants to go.
    pub to: std::net::SocketAddr,
    /// The port that the program's socket has; 0 if that does not matter.
    pub own_port: u16,
    /// Over what.
    pub protocol: Protocol,
    /// Cookie of the client's network namespace, for session affinity.
    pub netns_cookie: u64,
    /// It is the host's own.
    pub is_in_host: bool,
    /// Seed of the random choice.
    pub seed: u64,
    /// Nanoseconds of the monotonic clock.
    pub now: u64,
}

/// One step of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepText {
    /// The stage's word.
    pub stage: &'static str,
    /// What it found, in a sentence.
    pub text: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The steps, in order.
    pub steps: Vec<StepText>,
    /// `pass`, `forward`, or `refuse`.
    pub verdict: &'static str,
    /// The reason of a refusal.
    pub reason: Option<Reason>,
    /// Where the call goes.
    pub target: std::net::SocketAddr,
}

/// Copies the tables into memory for a trace. What a packet without data that nobody has sent does not meet is left out:
/// fragments, ICMP errors that others have asked for, names of sockets' peers. `host` is the number by which flows choose
/// their backend.
#[must_use]
pub fn sim(live: &Live, host: u32) -> Sim {
    let tables = &live.tables;
    let index = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Sim {
        frontends: tables.frontends.iter().copied().collect(),
        services: tables
            .services
            .iter()
            .enumerate()
            .map(|(id, word)| (index(id), *word))
            .collect(),
        sets: tables
            .sets
            .iter()
            .enumerate()
            .map(|(id, word)| (index(id), *word))
            .collect(),
        slots: tables
            .slots
            .iter()
            .enumerate()
            .map(|(at, id)| (index(at), *id))
            .collect(),
        backends: tables
            .backends
            .iter()
            .enumerate()
            .map(|(id, backend)| (index(id), *backend))
            .collect(),
        source_ranges: tables.ranges.iter().copied().collect(),
        affinity: RefCell::new(live.affinity.iter().copied().collect()),
        sockets: RefCell::new(live.sockets.iter().copied().collect()),
        clients: live.clients.clone(),
        learned_clients: RefCell::new(live.learned_clients.clone()),
        interfaces: live.interfaces.clone(),
        foreign: RefCell::new(live.foreign.clone()),
        opening: flows(live, true),
        flows: flows(live, false),
        snat_ports: live.ports.all,
        quiet_snat_ports: live.ports.quiet,
        flows_capacity: live.most.flows,
        sockets_capacity: live.most.sockets,
        host,
        ..Sim::default()
    }
}

/// The half-open flows, or the confirmed ones.
fn flows(live: &Live, opening: bool) -> RefCell<BTreeMap<FlowKey, FlowValue>> {
    let flows = live.flows.iter().filter(|(_, _, it)| *it == opening);
    RefCell::new(flows.map(|(key, value, _)| (*key, *value)).collect())
}

/// Runs the call through the datapath.
#[must_use]
pub fn run(sim: &Sim, call: &Call) -> Answer {
    sim.seed.set(call.seed);
    sim.clock.set(call.now);
    let to = (call.to.ip().into(), Port::new(call.to.port()));
    let foreign = foreign_socket(Port::new(call.own_port), to);
    let left = left(sim, &foreign);
    let mut socket = SimSocket {
        own_port: Port::new(call.own_port),
        peer: to,
        protocol: Some(call.protocol),
        // No socket has the cookie 0, so nothing is remembered of this one.
        cookie: 0,
        client: Client::from_netns_cookie(call.netns_cookie),
        is_in_host: call.is_in_host,
    };
    let walked = trace(call.hook, sim, &mut socket);
    let verdict = match walked.last().map(|last| last.step) {
        Some(Step::Done(verdict)) => verdict,
        Some(Step::Next(_)) | None => Verdict::Refuse(Reason::Inconsistent),
    };
    let (word, reason) = match verdict {
        Verdict::Pass => ("pass", None),
        Verdict::Forward => ("forward", None),
        Verdict::Refuse(reason) => ("refuse", Some(reason)),
    };
    Answer {
        steps: walked
            .iter()
            .map(|traced| describe(sim, traced, left.as_deref()))
            .collect(),
        verdict: word,
        reason,
        target: (socket.peer.0.to_ip(), socket.peer.1.get()).into(),
    }
}

/// What is said of a flow that kube-proxy began, if it is to pass now.
fn left(sim: &Sim, key: &FlowKey) -> Option<String> {
    let last = sim.foreign.borrow().get(key).copied()?;
    let silent = sim.seconds().saturating_sub(last);
    Some(format!(
        "kube-proxy began this flow: it is left to kube-proxy until it has been silent for {FOREIGN_SILENCE} s; it was \
         for {silent} s, so for {} s more unless this is sent",
        FOREIGN_SILENCE.saturating_sub(silent)
    ))
}

fn describe(sim: &Sim, traced: &Traced, left: Option<&str>) -> StepText {
    let state = &traced.state;
    let text = match (traced.stage, traced.step) {
        (_, Step::Done(Verdict::Refuse(reason))) => refusal(reason).to_owned(),
        (Stage::Service, Step::Done(_)) => {
            "the destination is no Service's: the call goes on untouched".to_owned()
        }
        (Stage::Service, Step::Next(_)) => {
            let choice = state.frontend.choice(false);
            let count = sim.sets.get(&choice.set).map_or(0, |word| word.count());
            let whose = if choice.is_local { " of this node" } else { "" };
            format!(
                "service {} has set {} with {count} backends{whose}",
                state.frontend.service(),
                choice.set
            )
        }
        (Stage::Reuse, Step::Next(Stage::Rewrite)) => {
            format!("the socket keeps backend {}", state.backend)
        }
        (Stage::Reuse, Step::Done(_)) => left.unwrap_or_default().to_owned(),
        (Stage::Reuse, _) => "the socket has not sent to this Service before".to_owned(),
        (Stage::Backend, _) => chosen(sim, state),
        (Stage::RecordPeer, _) => "getpeername will show the Service".to_owned(),
        (Stage::RecordReply, _) => "replies will show the Service".to_owned(),
        (Stage::Rewrite, _) => format!("the call goes to {}", endpoint(state)),
    };
    StepText {
        stage: traced.stage.name(),
        text,
    }
}

fn endpoint(state: &State) -> std::net::SocketAddr {
    (state.target.0.to_ip(), state.target.1.get()).into()
}

fn chosen(sim: &Sim, state: &State) -> String {
    let seconds = sim
        .services
        .get(&state.frontend.service())
        .map_or(0, |word| word.affinity_seconds());
    let how = if seconds == 0 {
        "by chance".to_owned()
    } else {
        format!("by affinity of {seconds} s, or by chance")
    };
    let health = match sim
        .backends
        .get(&state.backend)
        .map(|backend| backend.word().state())
    {
        Some(BackendState::Ready) => "ready",
        Some(BackendState::Draining) => "draining",
        Some(BackendState::Gone) | None => "gone",
    };
    format!(
        "backend {} ({}, {health}), chosen {how}",
        state.backend,
        endpoint(state)
    )
}

fn refusal(reason: Reason) -> &'static str {
    match reason {
        Reason::NoEndpoints => "the Service has no ready endpoint: the call is refused",
        Reason::NoLocalEndpoints => {
            "the traffic policy is Local and no ready endpoint is on this node: the call is refused"
        }
        Reason::NoSuchPort => "the address is a ClusterIP without this port: the call is refused",
        Reason::SocketsFull => {
            "the map `sockets` is full: a reply could not be shown as the Service's"
        }
        Reason::SourceNotAllowed => "the Service's loadBalancerSourceRanges do not name the client",
        Reason::BackendGone => "the backend of this connection is gone: the client is reset",
        Reason::TupleInUse => {
            "every backend that was tried talks to this client and port already, by another frontend; or another processor \
             opens this flow at the same moment"
        }
        Reason::SnatPortsExhausted => {
            "no port was found that could stand for the client: look at --snat-ports"
        }
        Reason::FlowsFull => "the map `flows` is full: raise --max-flows",
        Reason::FragmentWithoutFirst => "a fragment whose first one was not seen",
        Reason::Malformed => "headers that end too early, are too many or contradict each other",
        Reason::NoSourceAddress => {
            "the interface by which it leaves has no address that could stand for the client"
        }
        Reason::Inconsistent => {
            "the tables contradict each other: a defect of the agent, please report it"
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_common::{Backend, BackendWord, FrontendKey, FrontendValue, ServiceWord, SetWord};

    use mesh_ebpf::SnatPorts;

    use super::*;
    use crate::{plan::TableDump, snat_ports::Ports, telemetry::dump::Most};

    fn tables() -> TableDump {
        let cluster_ip = std::net::Ipv4Addr::new(10, 96, 0, 1).into();
        let backend_ip = std::net::Ipv4Addr::new(10, 244, 1, 2).into();
        let word = BackendWord::new(Port::new(8080), BackendState::Ready, 1);
        TableDump {
            frontends: vec![
                (
                    FrontendKey::new(cluster_ip, Port::new(80), 6),
                    FrontendValue::new(1, 1, 0),
                ),
                (
                    FrontendKey::whole_address(cluster_ip),
                    FrontendValue::refuse(),
                ),
            ],
            services: vec![ServiceWord::new(0), ServiceWord::new(0)],
            sets: vec![SetWord::EMPTY, SetWord::new(0, 1)],
            slots: vec![1],
            backends: vec![
                Backend::new(backend_ip, BackendWord::from_word(0)),
                Backend::new(backend_ip, word),
            ],
            ranges: Vec::new(),
        }
    }

    fn answer(to: &str) -> Answer {
        let call = Call {
            hook: Hook::Connect,
            to: to.parse().unwrap(),
            own_port: 0,
            protocol: Protocol::Tcp,
            netns_cookie: 1,
            is_in_host: false,
            seed: 1,
            now: 1,
        };
        let live = Live {
            tables: tables(),
            ..Live::default()
        };
        run(&sim(&live, 0), &call)
    }

    #[test]
    fn a_service_is_forwarded() {
        let answer = answer("10.96.0.1:80");
        assert_eq!((answer.verdict, answer.reason), ("forward", None));
        assert_eq!(answer.target, "10.244.1.2:8080".parse().unwrap());
        let stages: Vec<_> = answer.steps.iter().map(|step| step.stage).collect();
        assert_eq!(stages, ["service", "backend", "record-peer", "rewrite"]);
    }

    #[test]
    fn a_port_that_a_cluster_ip_lacks_is_refused() {
        let answer = answer("10.96.0.1:81");
        assert_eq!(
            (answer.verdict, answer.reason),
            ("refuse", Some(Reason::NoSuchPort))
        );
    }

    #[test]
    fn a_datagram_of_a_flow_that_kube_proxy_began_is_left_to_it() {
        let mut live = Live {
            tables: tables(),
            ..Live::default()
        };
        let to = (std::net::Ipv4Addr::new(10, 96, 0, 1).into(), Port::new(80));
        let whole = FrontendKey::new(to.0, to.1, 17);
        let served = FrontendValue::new(1, 1, 0);
        live.tables.frontends.push((whole, served));
        live.foreign
            .insert(foreign_socket(Port::new(4000), to), 988);
        let call = Call {
            hook: Hook::Sendmsg,
            to: "10.96.0.1:80".parse().unwrap(),
            own_port: 4000,
            protocol: Protocol::Udp,
            is_in_host: false,
            netns_cookie: 1,
            seed: 1,
            now: 1000 * 1_000_000_000,
        };
        let answer = run(&sim(&live, 0), &call);
        assert_eq!(answer.verdict, "pass");
        let last = answer.steps.last().unwrap();
        assert_eq!(last.stage, "reuse");
        assert!(last.text.contains("12 s, so for 18 s more"), "{last:?}");
        for call in [
            Call {
                own_port: 4001,
                ..call
            },
            Call {
                now: 1018 * 1_000_000_000,
                ..call
            },
        ] {
            assert_eq!(run(&sim(&live, 0), &call).verdict, "forward");
        }
    }

    #[test]
    fn what_the_programs_were_loaded_with_is_taken_over() {
        let ports = |first| SnatPorts {
            first,
            ..SnatPorts::default()
        };
        let live = Live {
            ports: Ports {
                all: ports(2000),
                quiet: ports(2500),
            },
            most: Most {
                flows: 30,
                sockets: 40,
            },
            ..Live::default()
        };
        let sim = sim(&live, 7);
        let found = (sim.snat_ports.first, sim.quiet_snat_ports.first);
        assert_eq!((found, sim.host), ((2000, 2500), 7));
        assert_eq!((sim.flows_capacity, sim.sockets_capacity), (30, 40));
    }

    #[test]
    fn others_pass() {
        assert_eq!(answer("192.0.2.1:80").verdict, "pass");
    }
}
