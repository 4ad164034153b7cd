//! `service list|get|explain`: Services, and what the kernel holds for them.

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
        "PORTS",
        "READY",
        "BACKENDS",
        "PROBLEMS",
    ]);
    for service in &services.items {
        let addresses: Vec<_> = service
            .cluster_ips
            .iter()
            .map(ToString::to_string)
            .collect();
        let backends = || service.ports.iter().flat_map(|port| &port.backends);
        let ready = backends()
            .filter(|backend| backend.state == "ready")
            .count();
        table.row([
            service.namespace.clone(),
            service.name.clone(),
            service.service_type.clone(),
            addresses.join(","),
            ports(service).join(","),
            ready.to_string(),
            backends().count().to_string(),
            service.problems.len().to_string(),
        ]);
    }
    table.render()
}

/// `80/TCP`, each once although each family has its own.
fn ports(service: &ServiceView) -> Vec<String> {
    let mut ports = Vec::new();
    for port in &service.ports {
        let text = format!("{}/{}", port.port, port.protocol);
        if !ports.contains(&text) {
            ports.push(text);
        }
    }
    ports
}

pub(super) fn get(service: &ServiceView, _: &Paint) -> String {
    let addresses: Vec<_> = service
        .cluster_ips
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut text = format!(
        "{}/{}  {}  {}\n",
        escape(&service.namespace),
        escape(&service.name),
        escape(&service.service_type),
        addresses.join(" "),
    );
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
        (Some(service), Some(set)) => format!("service {service}, set {set}"),
        _ => "not programmed".to_owned(),
    };
    let affinity = match port.affinity_seconds {
        0 => String::new(),
        seconds => format!(", session affinity {seconds} s"),
    };
    format!(
        "\n{}/{}{name} {}: {place}{affinity}\n  at {}\n{}",
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
