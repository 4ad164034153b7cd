//! `trace`: what would happen to a call, by the datapath's own code over a copy of the live maps.

use std::net::SocketAddr;

use mesh_common::{Protocol, Reason};
use mesh_ebpf::Hook;

use super::{args::TraceArgs, service::steps, terminal::Paint};
use crate::{
    datapath,
    telemetry::{
        dump::Live,
        view::{CheckLevel, StepView, TraceView},
    },
    trace::{
        self, Answer, Call,
        packet::{self, Packet},
    },
};

/// Hook and protocol of the call that the flags describe; None for an unconnected TCP socket, which does not exist.
pub(super) const fn kind(args: &TraceArgs) -> Option<(Hook, Protocol)> {
    match (args.protocol, args.unconnected) {
        (Some(Protocol::Udp) | None, true) => Some((Hook::Sendmsg, Protocol::Udp)),
        (Some(Protocol::Tcp), true) => None,
        (Some(Protocol::Tcp) | None, false) => Some((Hook::Connect, Protocol::Tcp)),
        (Some(Protocol::Udp), false) => Some((Hook::Connect, Protocol::Udp)),
    }
}

/// What the live maps make of the call, or of the packet.
pub(super) fn trace(
    live: &Live,
    args: &TraceArgs,
    (hook, protocol): (Hook, Protocol),
) -> TraceView {
    let sim = trace::sim(live, datapath::host_number());
    if let (Some(hook), Some(from)) = (args.packet, args.from) {
        let packet = Packet {
            hook,
            interface: interface(args.interface.as_deref()),
            from,
            to: args.to,
            protocol,
            flags: args.flags,
            seed: args.seed,
            now: live.now,
        };
        return view(args.to, protocol, packet::run(&sim, &packet));
    }
    let call = Call {
        hook,
        to: args.to,
        own_port: args.from.map_or(0, |from| from.port()),
        protocol,
        netns_cookie: args.from_netns,
        is_in_host: args.from_netns == 0
            || datapath::own_netns_cookie().is_ok_and(|own| own == args.from_netns),
        seed: args.seed,
        now: live.now,
    };
    view(args.to, protocol, trace::run(&sim, &call))
}

/// The kernel's number of an interface; 0, which none has, if there is none of the name.
fn interface(name: Option<&str>) -> u32 {
    name.and_then(|name| nix::net::if_::if_nametoindex(name).ok())
        .unwrap_or(0)
}

fn view(to: SocketAddr, protocol: Protocol, answer: Answer) -> TraceView {
    let step = |step: trace::StepText| StepView {
        stage: step.stage.to_owned(),
        text: step.text,
    };
    TraceView {
        to: to.to_string(),
        protocol: protocol.name().to_owned(),
        steps: answer.steps.into_iter().map(step).collect(),
        verdict: answer.verdict.to_owned(),
        reason: answer.reason.map(|reason: Reason| reason.name().to_owned()),
        target: answer.reason.is_none().then(|| answer.target.to_string()),
    }
}

pub(super) fn table(trace: &TraceView, paint: &Paint) -> String {
    let (level, word, rest) = match (&trace.reason, &trace.target) {
        (Some(reason), _) => (CheckLevel::Error, "refused", reason.clone()),
        (None, Some(target)) if trace.verdict == "forward" => {
            (CheckLevel::Ok, "forwarded", format!("to {target}"))
        }
        _ => (
            CheckLevel::Ok,
            "untouched",
            format!("goes to {} as it is", trace.to),
        ),
    };
    format!(
        "{} {}\n{}{}: {rest}\n",
        trace.protocol,
        trace.to,
        steps(&trace.steps),
        paint.level(level, word)
    )
}
