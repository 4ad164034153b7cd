//! From the engine's words to the commands'. Pure.

use std::net::SocketAddr;

use mesh_common::FrontendKey;

use super::shared::KernelEngine;
use crate::{
    desired::{Family, Finding},
    engine,
    interfaces::Interfaces,
    source::{Problem, kube::LinkState},
    telemetry::{
        dump::{range, state_name},
        view::{
            BackendView, EndpointView, ProblemView, ServicePortView, ServiceView, StatusView,
            WatchView,
        },
    },
};

/// The local pods.
pub(super) fn endpoints(interfaces: &Interfaces) -> Vec<EndpointView> {
    let pods = interfaces.pods.iter();
    pods.map(|(index, pod)| EndpointView {
        interface: pod.name.clone(),
        index: *index,
        nsid: pod.nsid,
        addresses: pod.addresses.iter().copied().collect(),
        first_seen: pod.first_seen,
    })
    .collect()
}

/// Counts and problems; the rest is the caller's.
pub(super) fn status(engine: &KernelEngine, problems: &[Problem]) -> StatusView {
    let mut status = StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        dirty: count(engine.dirty()),
        kept: count(engine.applied().left_over()),
        ..StatusView::default()
    };
    for service in engine.service_views() {
        status.services += 1;
        status.service_ports += count(service.ports.len());
        status.backends += service
            .ports
            .iter()
            .map(|port| count(port.backends.len()))
            .sum::<u64>();
    }
    status.problems = problems.iter().map(source_problem).collect();
    status
        .problems
        .extend(engine.findings().iter().map(finding));
    status
}

/// How a watch is.
pub(super) fn watch(state: &LinkState) -> WatchView {
    WatchView {
        kind: state.kind.name().to_owned(),
        stale_seconds: state.stale.as_secs(),
        error: state.error.clone(),
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A Service with what the kernel holds for it.
pub(super) fn service(view: &engine::ServiceView) -> ServiceView {
    ServiceView {
        namespace: view.name.namespace.to_string(),
        name: view.name.name.to_string(),
        service_type: view
            .service_type
            .map_or("", |service_type| service_type.name())
            .to_owned(),
        cluster_ips: view.cluster_ips.clone(),
        external_ips: view.external_ips.clone(),
        load_balancer_ips: view.load_balancer_ips.clone(),
        internal_traffic_policy: view.policies.map(|[it, _]| it.name().to_owned()),
        external_traffic_policy: view.policies.map(|[_, it]| it.name().to_owned()),
        health_check_node_port: view.health_check_port,
        ports: view.ports.iter().map(port).collect(),
        problems: view.findings.iter().map(finding).collect(),
    }
}

/// Address and port, as people write them.
pub(super) fn frontend(key: &FrontendKey) -> String {
    SocketAddr::from((key.address().to_ip(), key.port().get())).to_string()
}

fn port(port: &engine::PortView) -> ServicePortView {
    ServicePortView {
        name: port.name.clone(),
        protocol: port.id.protocol.name().to_owned(),
        port: port.id.port,
        node_port: port.node_port,
        family: match port.id.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
        .to_owned(),
        service_id: Some(port.service),
        set_id: Some(port.set),
        local_set_id: Some(port.local_set).filter(|set| *set != 0),
        affinity_seconds: port.affinity_seconds,
        frontends: port
            .frontends
            .iter()
            .map(|(key, _)| frontend(key))
            .collect(),
        source_ranges: port.ranges.iter().copied().map(range).collect(),
        backends: port.backends.iter().map(backend).collect(),
    }
}

fn backend(record: &engine::BackendView) -> BackendView {
    let word = record.backend.word();
    BackendView {
        id: Some(record.id),
        address: record.backend.address().to_ip(),
        port: word.port().get(),
        state: state_name(word.state()).to_owned(),
        generation: Some(word.generation()),
        slot: record.slot,
        local_slot: record.local_slot,
        why: match (record.slot, record.local_slot) {
            (Some(_), _) => None,
            (None, Some(_)) => Some("by the policy Local alone".to_owned()),
            (None, None) => {
                Some("not ready any more: keeps its connections, gets no new ones".to_owned())
            }
        },
    }
}

/// Where a service port is in the kernel.
pub(super) fn place(service: u32, set: u32, local: Option<u32>) -> String {
    let local = local.filter(|local| *local != 0);
    let local = local.map_or_else(String::new, |local| format!(", of this node's {local}"));
    format!("service {service}, set {set}{local}")
}

fn finding(finding: &Finding) -> ProblemView {
    ProblemView {
        file: String::new(),
        object: finding.object.to_string(),
        field: finding.field.clone(),
        reason: finding.reason.clone(),
        fix: finding.fix.clone(),
    }
}

fn source_problem(problem: &Problem) -> ProblemView {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let line = problem
        .line
        .map_or_else(String::new, |line| format!(":{line}"));
    ProblemView {
        file: text(&problem.file) + &line,
        object: text(&problem.object),
        field: text(&problem.field),
        reason: problem.reason.clone(),
        fix: problem.fix.clone(),
    }
}
