//! From the engine's words to the commands'. Pure.

use std::collections::BTreeSet;

use super::shared::KernelEngine;
use crate::{
    desired::{Family, Finding},
    engine,
    model::{Endpoint, ObjectName, Protocol},
    source::Problem,
    store::Store,
    telemetry::{
        dump::state_name,
        view::{
            BackendView, ExplainView, ProblemView, ServicePortView, ServiceView, StatusView,
            StepView,
        },
    },
};

/// Counts and problems; the rest is the caller's.
pub(super) fn status(engine: &KernelEngine, problems: &[Problem]) -> StatusView {
    let mut status = StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        dirty: count(engine.dirty()),
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
        ports: view.ports.iter().map(port).collect(),
        problems: view.findings.iter().map(finding).collect(),
    }
}

/// The same with the endpoints that get nothing, and the way from objects to kernel.
pub(super) fn explain(store: &Store, view: &engine::ServiceView) -> ExplainView {
    let mut service = service(view);
    for (shown, port) in service.ports.iter_mut().zip(&view.ports) {
        let known: BTreeSet<_> = shown
            .backends
            .iter()
            .map(|backend| backend.address)
            .collect();
        let unused = excluded(
            store,
            &view.name,
            port.id.family,
            port.id.protocol,
            &port.name,
        );
        shown.backends.extend(
            unused
                .into_iter()
                .filter(|backend| !known.contains(&backend.address)),
        );
    }
    ExplainView {
        steps: steps(store, view),
        service,
    }
}

fn steps(store: &Store, view: &engine::ServiceView) -> Vec<StepView> {
    let step = |stage: &str, text: String| StepView {
        stage: stage.to_owned(),
        text,
    };
    let slices = store.slices_of(&view.name);
    let (slices, endpoints) = slices.fold((0, 0), |(slices, all), slice| {
        (slices + 1, all + slice.endpoints.len())
    });
    let pods = store
        .service(&view.name)
        .map_or(0, |service| store.pods_of(service).count());
    let from = if slices > 0 {
        format!("{endpoints} endpoints in {slices} EndpointSlices")
    } else {
        format!(
            "no EndpointSlice, so endpoints are made from the {pods} Pods that the selector matches"
        )
    };
    let mut steps = vec![step("objects", from)];
    if view.cluster_ips.is_empty() {
        steps.push(step(
            "desired",
            "the Service has no ClusterIP: nothing is programmed".to_owned(),
        ));
    }
    for port in &view.ports {
        let ready = port
            .backends
            .iter()
            .filter(|backend| backend.slot.is_some())
            .count();
        let rest = port.backends.len() - ready;
        let name = format!("{} {}", port.id.protocol.name(), port.id.port);
        steps.push(step(
            "desired",
            format!("{name}: {ready} backends get new connections, {rest} keep what they have"),
        ));
        let frontends: Vec<String> = port
            .frontends
            .iter()
            .map(|key| {
                std::net::SocketAddr::from((key.address().to_ip(), key.port().get())).to_string()
            })
            .collect();
        let text = format!(
            "{name}: {} -> service {} -> set {}",
            frontends.join(", "),
            port.service,
            port.set
        );
        steps.push(step("kernel", text));
    }
    steps.extend(
        view.findings
            .iter()
            .map(|finding| step("problem", finding.to_string())),
    );
    steps
}

fn port(port: &engine::PortView) -> ServicePortView {
    let frontend = |key: &mesh_common::FrontendKey| {
        std::net::SocketAddr::from((key.address().to_ip(), key.port().get()))
    };
    ServicePortView {
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
        frontends: port
            .frontends
            .iter()
            .map(|key| frontend(key).to_string())
            .collect(),
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
        why: record
            .slot
            .is_none()
            .then(|| "not ready any more: keeps its connections, gets no new ones".to_owned()),
    }
}

/// The slices' endpoints of a port, with the reason why each is not used.
fn excluded(
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
                    id: None,
                    address: endpoint.address,
                    port: port.map_or(0, |port| port.port),
                    state: "excluded".to_owned(),
                    generation: None,
                    slot: None,
                    why: Some(why_unused(endpoint, port.is_some()).to_owned()),
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
