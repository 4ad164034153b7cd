//! From the engine's words to the commands'. Pure.

use std::{collections::BTreeSet, net::IpAddr};

use mesh_common::BackendState;

use super::shared::KernelEngine;
use crate::{
    desired::{Family, Finding},
    engine,
    model::{Endpoint, ObjectName, Protocol},
    source::Problem,
    store::Store,
    telemetry::{BackendView, FrontendView, PortView, ProblemView, ServiceView, StatusView},
};

/// Counts and problems; the rest is the caller's.
pub(super) fn status(engine: &KernelEngine, problems: &[Problem]) -> StatusView {
    let mut status = StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        dirty: engine.dirty(),
        ..StatusView::default()
    };
    for service in engine.service_views() {
        status.services += usize::from(!service.ports.is_empty());
        status.ports += service.ports.len();
        status.backends += service
            .ports
            .iter()
            .map(|port| port.backends.len())
            .sum::<usize>();
    }
    status.problems = problems.iter().map(source_problem).collect();
    status
        .problems
        .extend(engine.findings().iter().map(finding));
    status
}

/// A Service with what the kernel holds, and the endpoints that are not used and why.
pub(super) fn service(store: &Store, view: &engine::ServiceView) -> ServiceView {
    ServiceView {
        namespace: view.name.namespace.to_string(),
        name: view.name.name.to_string(),
        service_type: view
            .service_type
            .map_or("", |service_type| service_type.name())
            .to_owned(),
        cluster_ips: view.cluster_ips.iter().map(IpAddr::to_string).collect(),
        ports: view
            .ports
            .iter()
            .map(|port| self::port(store, &view.name, port))
            .collect(),
        problems: view.findings.iter().map(finding).collect(),
    }
}

fn port(store: &Store, service: &ObjectName, port: &engine::PortView) -> PortView {
    let frontends = port.frontends.iter().map(|key| FrontendView {
        address: key.address().to_string(),
        port: key.port().get(),
        programmed: true,
    });
    let mut backends: Vec<BackendView> = port.backends.iter().map(backend).collect();
    let known: BTreeSet<String> = backends
        .iter()
        .map(|backend| backend.address.clone())
        .collect();
    let unused = endpoints(store, service, port.id.family, port.id.protocol, &port.name);
    backends.extend(
        unused
            .into_iter()
            .filter(|backend| !known.contains(&backend.address)),
    );
    PortView {
        name: port.name.clone(),
        protocol: port.id.protocol.name().to_owned(),
        port: port.id.port,
        family: match port.id.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
        .to_owned(),
        service_id: Some(port.service),
        set_id: Some(port.set),
        affinity_seconds: port.affinity_seconds,
        frontends: frontends.collect(),
        backends,
    }
}

fn backend(record: &engine::BackendView) -> BackendView {
    let word = record.backend.word();
    let (state, why) = match (word.state(), record.slot) {
        (BackendState::Ready, Some(_)) => ("ready", "gets new connections"),
        (BackendState::Ready, None) => ("ready", "is about to get new connections"),
        (BackendState::Draining, _) => (
            "draining",
            "keeps its connections and gets no new ones: not ready any more",
        ),
        (BackendState::Gone, _) => ("gone", "its endpoint is gone"),
    };
    BackendView {
        id: Some(record.id),
        address: record.backend.address().to_string(),
        port: word.port().get(),
        state: state.to_owned(),
        generation: Some(word.generation()),
        why: why.to_owned(),
    }
}

/// The slices' endpoints of a port, with the reason why each is not used.
fn endpoints(
    store: &Store,
    service: &ObjectName,
    family: Family,
    protocol: Protocol,
    port_name: &str,
) -> Vec<BackendView> {
    let mut views = Vec::new();
    for slice in store.slices_of(service) {
        let port = slice
            .ports
            .iter()
            .find(|port| &*port.name == port_name && port.protocol == protocol);
        for endpoint in &slice.endpoints {
            if endpoint.address.is_ipv4() == (family == Family::V4) {
                views.push(BackendView {
                    address: endpoint.address.to_string(),
                    port: port.map_or(0, |port| port.port),
                    state: "unused".to_owned(),
                    why: why_unused(endpoint, port.is_some()).to_owned(),
                    ..BackendView::default()
                });
            }
        }
    }
    views
}

fn why_unused(endpoint: &Endpoint, has_port: bool) -> &'static str {
    match (has_port, endpoint.ready, endpoint.terminating) {
        (false, _, _) => "its slice has no port of this name and protocol",
        (true, false, true) => "it is terminating",
        (true, false, false) => "it is not ready",
        (true, true, _) => "it waits to be written",
    }
}

fn finding(finding: &Finding) -> ProblemView {
    ProblemView {
        file: None,
        object: Some(finding.object.to_string()),
        field: (!finding.field.is_empty()).then(|| finding.field.clone()),
        reason: finding.reason.clone(),
        fix: finding.fix.clone(),
    }
}

fn source_problem(problem: &Problem) -> ProblemView {
    ProblemView {
        file: problem.file.clone(),
        object: problem.object.clone(),
        field: problem.field.clone(),
        reason: problem.reason.clone(),
        fix: problem.fix.clone(),
    }
}
