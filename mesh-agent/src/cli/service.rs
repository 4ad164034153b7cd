//! `service list|get|explain`: Services, and what the kernel holds for them.

use std::net::IpAddr;

use super::{
    CliError, Verdict,
    args::{ServiceArgs, ServiceCommand},
    status::problems,
    table::Table,
    terminal::{Paint, Terminal},
};
use crate::{
    admin::client::Client,
    telemetry::{
        escape::escape,
        view::{BackendView, Document, ExplainView, Items, ServicePortView, ServiceView, StepView},
    },
};

pub(super) fn run(
    client: &Client,
    command: &ServiceCommand,
    terminal: &mut Terminal<'_>,
) -> Result<Verdict, CliError> {
    let path = |args: &ServiceArgs| {
        let name = &args.name;
        format!("/v1/services/{}/{}", name.namespace, name.name)
    };
    match command {
        ServiceCommand::List(args) => {
            let services: Document<Items<ServiceView>> = client.get("/v1/services")?;
            terminal.show(args.output, &services, list)?;
        }
        ServiceCommand::Get(args) => {
            let service: Document<ServiceView> = client.get(&path(args))?;
            terminal.show(args.output.output, &service, get)?;
        }
        ServiceCommand::Explain(args) => {
            let explained: Document<ExplainView> =
                client.get(&format!("{}/explain", path(args)))?;
            terminal.show(args.output.output, &explained, explain)?;
        }
    }
    Ok(Verdict::Fine)
}

pub(super) fn list(services: &Items<ServiceView>, _: &Paint) -> String {
    let mut table = Table::new(&[
        "NAMESPACE",
        "NAME",
        "TYPE",
        "CLUSTER-IPS",
        "EXTERNAL-IPS",
        "PORTS",
        "READY",
        "BACKENDS",
        "PROBLEMS",
    ]);
    for service in &services.items {
        let backends = || service.ports.iter().flat_map(|port| &port.backends);
        let ready = backends()
            .filter(|backend| backend.state == "ready")
            .count();
        table.row([
            service.namespace.clone(),
            service.name.clone(),
            service.service_type.clone(),
            joined(&service.cluster_ips, ","),
            joined(&external(service), ","),
            ports(service).join(","),
            ready.to_string(),
            backends().count().to_string(),
            service.problems.len().to_string(),
        ]);
    }
    table.render()
}

/// External IPs and the load balancer's, each once.
fn external(service: &ServiceView) -> Vec<IpAddr> {
    let mut addresses = service.external_ips.clone();
    let more = service.load_balancer_ips.iter();
    addresses.extend(more.filter(|it| !service.external_ips.contains(it)));
    addresses
}

fn joined(addresses: &[IpAddr], between: &str) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(between)
}

/// `80/TCP`, or `80:30080/TCP` with a node port, each once although each family has its own.
fn ports(service: &ServiceView) -> Vec<String> {
    let mut ports = Vec::new();
    for port in &service.ports {
        let node_port = port
            .node_port
            .map_or_else(String::new, |it| format!(":{it}"));
        let text = format!("{}{node_port}/{}", port.port, port.protocol);
        if !ports.contains(&text) {
            ports.push(text);
        }
    }
    ports
}

pub(super) fn get(service: &ServiceView, _: &Paint) -> String {
    let mut text = format!(
        "{}/{}  {}  {}\n",
        escape(&service.namespace),
        escape(&service.name),
        escape(&service.service_type),
        joined(&service.cluster_ips, " "),
    );
    let policies = [
        ("internal", &service.internal_traffic_policy),
        ("external", &service.external_traffic_policy),
    ];
    for (which, policy) in policies {
        if policy.as_deref() == Some("Local") {
            text.push_str(&format!("{which} traffic policy: Local\n"));
        }
    }
    if let Some(port) = service.health_check_node_port {
        text.push_str(&format!("health check node port: {port}\n"));
    }
    for (what, addresses) in [
        ("external IPs", &service.external_ips),
        ("load balancer", &service.load_balancer_ips),
    ] {
        if !addresses.is_empty() {
            text.push_str(&format!("{what}: {}\n", joined(addresses, " ")));
        }
    }
    for port in &service.ports {
        text.push_str(&port_text(port));
    }
    text.push_str(&problems(&service.problems));
    text
}

fn port_text(port: &ServicePortView) -> String {
    let name = match port.name.as_str() {
        "" => String::new(),
        name => format!(" ({})", escape(name)),
    };
    let place = match (port.service_id, port.set_id) {
        (Some(service), Some(set)) => {
            let local = port.local_set_id;
            let local = local.map_or_else(String::new, |local| format!(", of this node's {local}"));
            format!("service {service}, set {set}{local}")
        }
        _ => "not programmed".to_owned(),
    };
    let affinity = match port.affinity_seconds {
        0 => String::new(),
        seconds => format!(", session affinity {seconds} s"),
    };
    let node_port = port
        .node_port
        .map_or_else(String::new, |number| format!(", node port {number}"));
    let ranges = match port.source_ranges.as_slice() {
        [] => String::new(),
        ranges => format!("  load balancer open to {}\n", escape(&ranges.join(", "))),
    };
    let mut slots = port.backends.iter().map(|backend| backend.local_slot);
    let nobody_here = if port.local_set_id.is_some() && !slots.any(|slot| slot.is_some()) {
        "  none on this node: calls that the policy Local is for are refused (no_local_endpoints)\n"
    } else {
        ""
    };
    format!(
        "\n{}/{}{name} {}: {place}{affinity}{node_port}\n  at {}\n{ranges}{nobody_here}{}",
        port.port,
        escape(&port.protocol),
        escape(&port.family),
        match port.frontends.as_slice() {
            [] => "no address".to_owned(),
            frontends => escape(&frontends.join(", ")).into_owned(),
        },
        backends(&port.backends)
    )
}

fn backends(backends: &[BackendView]) -> String {
    if backends.is_empty() {
        return "  no backends: every call is refused (no_endpoints)\n".to_owned();
    }
    let mut table = Table::new(&[
        "BACKEND",
        "ADDRESS",
        "PORT",
        "STATE",
        "GENERATION",
        "SLOT",
        "LOCAL-SLOT",
        "WHY",
    ]);
    let number = |number: Option<u32>| number.map_or_else(String::new, |it| it.to_string());
    for backend in backends {
        table.row([
            number(backend.id),
            backend.address.to_string(),
            backend.port.to_string(),
            backend.state.clone(),
            number(backend.generation),
            number(backend.slot),
            number(backend.local_slot),
            backend.why.clone().unwrap_or_default(),
        ]);
    }
    let lines = table.render();
    lines.lines().map(|line| format!("  {line}\n")).collect()
}

pub(super) fn explain(explained: &ExplainView, paint: &Paint) -> String {
    format!(
        "{}\n{}",
        get(&explained.service, paint),
        steps(&explained.steps)
    )
}

/// Steps one a line, numbered.
pub(super) fn steps(steps: &[StepView]) -> String {
    let width = steps
        .iter()
        .map(|step| step.stage.chars().count())
        .max()
        .unwrap_or(0);
    let line = |(number, step): (usize, &StepView)| {
        format!(
            "{number:2}. {:width$}  {}\n",
            escape(&step.stage),
            escape(&step.text)
        )
    };
    (1..).zip(steps).map(line).collect()
}
