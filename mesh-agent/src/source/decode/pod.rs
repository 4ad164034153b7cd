//! Pod.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod as Manifest, PodStatus};

use super::{
    address,
    field::{self, Rejected},
    metadata::{self, Interner},
    service::protocol,
};
use crate::model::{ContainerPort, Pod, PodPhase};

pub(super) fn convert(
    manifest: &Manifest,
    interner: &mut Interner,
    notes: &mut Vec<Rejected>,
) -> Result<Pod, Rejected> {
    let name = metadata::name(&manifest.metadata, interner)?;
    let spec = manifest.spec.as_ref();
    let status = manifest.status.as_ref();
    let containers = spec.map_or(&[][..], |spec| &spec.containers);
    Ok(Pod {
        name,
        labels: metadata::labels(manifest.metadata.labels.as_ref(), interner),
        addresses: status.map_or_else(|| Ok(Vec::new()), addresses)?,
        phase: phase(status)?,
        ready: status.is_some_and(is_ready),
        terminating: manifest.metadata.deletion_timestamp.is_some(),
        node: spec
            .and_then(|spec| spec.node_name.as_deref())
            .map(|node| interner.share(node)),
        ports: ports(containers, interner, notes)?,
    })
}

/// status.podIPs, or status.podIP alone.
fn addresses(status: &PodStatus) -> Result<Vec<IpAddr>, Rejected> {
    let all = status.pod_ips.as_deref().unwrap_or_default();
    if all.is_empty() {
        let first = status
            .pod_ip
            .as_deref()
            .filter(|address| !address.is_empty());
        return first
            .map(|text| address::parse(|| "status.podIP".to_owned(), text))
            .into_iter()
            .collect();
    }
    let parse = |(index, text): (usize, &str)| {
        address::parse(|| format!("status.podIPs[{index}].ip"), text)
    };
    all.iter()
        .map(|address| address.ip.as_str())
        .enumerate()
        .map(parse)
        .collect()
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

fn ports(
    containers: &[Container],
    interner: &mut Interner,
    notes: &mut Vec<Rejected>,
) -> Result<Vec<ContainerPort>, Rejected> {
    let mut ports = Vec::new();
    for (container, manifest) in containers.iter().enumerate() {
        for (index, port) in manifest.ports.iter().flatten().enumerate() {
            let path = |field: &str| format!("spec.containers[{container}].ports[{index}].{field}");
            let number = field::port(|| path("containerPort"), port.container_port)?;
            let name = interner.share(port.name.as_deref().unwrap_or_default());
            if let Some(protocol) = protocol(|| path("protocol"), port.protocol.as_deref(), notes)?
            {
                ports.push(ContainerPort {
                    name,
                    protocol,
                    port: number,
                });
            }
        }
    }
    Ok(ports)
}
