//! Pod.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort as ManifestPort, Pod as Manifest, PodStatus,
};

use super::{
    address,
    field::{self, Rejected},
    metadata::{self, Interner},
    service::protocol,
};
use crate::model::{ContainerPort, HostPort, Pod, PodPhase};

pub(super) fn convert(
    manifest: &Manifest,
    interner: &mut Interner,
    notes: &mut Vec<Rejected>,
) -> Result<Pod, Rejected> {
    let name = metadata::name(&manifest.metadata, interner)?;
    let spec = manifest.spec.as_ref();
    let status = manifest.status.as_ref();
    let host_network = spec.is_some_and(|spec| spec.host_network == Some(true));
    let containers = spec.map_or(&[][..], |spec| &spec.containers);
    Ok(Pod {
        name,
        created: metadata::created(&manifest.metadata),
        labels: metadata::labels(manifest.metadata.labels.as_ref(), interner),
        addresses: match status {
            Some(status) => addresses(status, host_network, notes)?,
            None => Vec::new(),
        },
        phase: phase(status)?,
        ready: status.is_some_and(is_ready),
        terminating: manifest.metadata.deletion_timestamp.is_some(),
        node: spec
            .and_then(|spec| spec.node_name.as_deref())
            .map(|node| interner.share(node)),
        host_network,
        ports: ports(containers, interner)?,
    })
}

/// status.podIPs, or status.podIP alone; a Pod in the host's network has the host's addresses, also before the kubelet
/// writes them down as its own.
fn addresses(
    status: &PodStatus,
    host_network: bool,
    notes: &mut Vec<Rejected>,
) -> Result<Vec<IpAddr>, Rejected> {
    let pod_ips = status.pod_ips.iter().flatten().map(|it| it.ip.as_str());
    let own = parse_all("status.podIP", status.pod_ip.as_deref(), pod_ips, notes)?;
    if !own.is_empty() || !host_network {
        return Ok(own);
    }
    let host_ips = status.host_ips.iter().flatten().map(|it| it.ip.as_str());
    parse_all("status.hostIP", status.host_ip.as_deref(), host_ips, notes)
}

fn parse_all<'a>(
    field: &str,
    first: Option<&str>,
    all: impl Iterator<Item = &'a str>,
    notes: &mut Vec<Rejected>,
) -> Result<Vec<IpAddr>, Rejected> {
    let parse = |(index, text)| address::endpoint(|| format!("{field}s[{index}].ip"), text, notes);
    let addresses: Vec<IpAddr> = all.enumerate().map(parse).collect::<Result<_, _>>()?;
    match first.filter(|first| !first.is_empty()) {
        Some(first) if addresses.is_empty() => {
            Ok(vec![address::endpoint(|| field.to_owned(), first, notes)?])
        }
        Some(_) | None => Ok(addresses),
    }
}

fn phase(status: Option<&PodStatus>) -> Result<PodPhase, Rejected> {
    match status.and_then(|status| status.phase.as_deref()) {
        None | Some("" | "Pending") => Ok(PodPhase::Pending),
        Some("Running") => Ok(PodPhase::Running),
        Some("Succeeded") => Ok(PodPhase::Succeeded),
        Some("Failed") => Ok(PodPhase::Failed),
        Some("Unknown") => Ok(PodPhase::Unknown),
        Some(other) => Err(Rejected::new(
            "status.phase",
            format!("{other:?} is no phase"),
            "give Running, for one",
        )),
    }
}

fn is_ready(status: &PodStatus) -> bool {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Ports of protocols that are not served are no mistake here: the Service that wants them is told.
fn ports(
    containers: &[Container],
    interner: &mut Interner,
) -> Result<Vec<ContainerPort>, Rejected> {
    let mut ports = Vec::new();
    for (container, manifest) in containers.iter().enumerate() {
        for (index, port) in manifest.ports.iter().flatten().enumerate() {
            let path = |field: &str| format!("spec.containers[{container}].ports[{index}].{field}");
            let number = field::port(|| path("containerPort"), port.container_port)?;
            let name = field::port_name(|| path("name"), port.name.as_deref())?;
            let served = protocol(
                || path("protocol"),
                port.protocol.as_deref(),
                &mut Vec::new(),
            )?;
            if let Some(protocol) = served {
                ports.push(ContainerPort {
                    name: interner.share(name),
                    protocol,
                    port: number,
                    host: host_port(port, path)?,
                });
            }
        }
    }
    Ok(ports)
}

fn host_port(
    port: &ManifestPort,
    path: impl Fn(&str) -> String,
) -> Result<Option<HostPort>, Rejected> {
    let Some(number) = port.host_port.filter(|number| *number != 0) else {
        return Ok(None);
    };
    let number = field::port(|| path("hostPort"), number)?;
    let text = port.host_ip.as_deref().filter(|ip| !ip.is_empty());
    let address: Option<IpAddr> = match text.map(str::parse).transpose() {
        Ok(address) => address,
        Err(_) => {
            let reason = format!("{:?} is no IP address", text.unwrap_or_default());
            return Err(Rejected::new(
                path("hostIP"),
                reason,
                "give one of the node's",
            ));
        }
    };
    Ok(Some(HostPort {
        port: number,
        address,
    }))
}
