//! Service.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::{
    api::core::v1::{Service as Manifest, ServicePort as ManifestPort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    Options, address, external,
    field::{self, Rejected},
    metadata::{self, Interner},
};
use crate::model::{Protocol, Service, ServicePort, ServiceType, TargetPort};

/// More ports than any Service has; one with more is a mistake that would take other Services' room.
const MOST_PORTS: usize = 4096;
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// The API's default and most (spec.sessionAffinityConfig.clientIP.timeoutSeconds).
const AFFINITY_DEFAULT: u32 = 10_800;
const AFFINITY_MOST: i32 = 86_400;

pub(super) fn convert(
    manifest: &Manifest,
    options: &Options,
    interner: &mut Interner,
    notes: &mut Vec<Rejected>,
) -> Result<Option<Service>, Rejected> {
    let name = metadata::label_name(&manifest.metadata, interner)?;
    let proxy_name = manifest
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(PROXY_NAME));
    if proxy_name != options.proxy_name.as_ref() {
        return Ok(None);
    }
    let Some(spec) = &manifest.spec else {
        return Err(Rejected::new("spec", "there is none", "add it"));
    };
    let service_type = service_type(spec)?;
    let policy = external::traffic_policy;
    let external_policy = policy(
        "spec.externalTrafficPolicy",
        spec.external_traffic_policy.as_deref(),
    )?;
    Ok(Some(Service {
        name,
        created: metadata::created(&manifest.metadata),
        service_type,
        cluster_ips: if service_type == ServiceType::ExternalName {
            Vec::new()
        } else {
            cluster_ips(spec)?
        },
        external_ips: external::external_ips(spec, notes),
        load_balancer_ips: external::load_balancer_ips(manifest.status.as_ref(), notes),
        source_ranges: external::source_ranges(spec, notes),
        external_policy,
        internal_policy: policy(
            "spec.internalTrafficPolicy",
            spec.internal_traffic_policy.as_deref(),
        )?,
        ports: ports(spec, service_type, interner, notes)?,
        selector: metadata::labels(spec.selector.as_ref(), interner),
        affinity_seconds: affinity(spec)?,
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        distribution: external::distribution(spec, notes),
        health_check_port: external::health_check_port(spec, service_type, external_policy, notes),
    }))
}

fn service_type(spec: &ServiceSpec) -> Result<ServiceType, Rejected> {
    match spec.type_.as_deref() {
        None | Some("" | "ClusterIP") => Ok(ServiceType::ClusterIp),
        Some("NodePort") => Ok(ServiceType::NodePort),
        Some("LoadBalancer") => Ok(ServiceType::LoadBalancer),
        Some("ExternalName") => Ok(ServiceType::ExternalName),
        Some(other) => Err(Rejected::new(
            "spec.type",
            format!("{other:?} is no type of Service"),
            "give ClusterIP, NodePort, LoadBalancer or ExternalName",
        )),
    }
}

/// spec.clusterIPs, or spec.clusterIP alone; None is no address, and a Service without one is not served.
fn cluster_ips(spec: &ServiceSpec) -> Result<Vec<IpAddr>, Rejected> {
    let first = spec.cluster_ip.as_deref().unwrap_or_default();
    let all = spec.cluster_ips.as_deref().unwrap_or_default();
    if let (false, Some(all_first)) = (first.is_empty(), all.first())
        && first != all_first
    {
        let reason = format!("{all_first:?} is not spec.clusterIP, which is {first:?}");
        return Err(Rejected::new(
            "spec.clusterIPs[0]",
            reason,
            "give both the same",
        ));
    }
    if first == "None" || all.iter().any(|address| address == "None") {
        return Ok(Vec::new());
    }
    let mut addresses = Vec::new();
    if all.is_empty() && !first.is_empty() {
        addresses.push(address::service(|| "spec.clusterIP".to_owned(), first)?);
    }
    for (index, text) in all.iter().enumerate() {
        let field = || format!("spec.clusterIPs[{index}]");
        let parsed = address::service(field, text)?;
        if addresses
            .iter()
            .any(|it: &IpAddr| it.is_ipv4() == parsed.is_ipv4())
        {
            let reason = format!("{text} is the second address of its family");
            return Err(Rejected::new(
                field(),
                reason,
                "give at most one address of each family",
            ));
        }
        addresses.push(parsed);
    }
    Ok(addresses)
}

fn ports(
    spec: &ServiceSpec,
    service_type: ServiceType,
    interner: &mut Interner,
    notes: &mut Vec<Rejected>,
) -> Result<Vec<ServicePort>, Rejected> {
    let manifests = spec.ports.as_deref().unwrap_or_default();
    if manifests.len() > MOST_PORTS {
        let reason = format!("{} ports are more than {MOST_PORTS}", manifests.len());
        return Err(Rejected::new("spec.ports", reason, "split the Service"));
    }
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    let mut node_ports = BTreeSet::new();
    let mut ports = Vec::with_capacity(manifests.len());
    for (index, manifest) in manifests.iter().enumerate() {
        let field = || format!("spec.ports[{index}].name");
        let name = field::port_name(field, manifest.name.as_deref())?;
        if !names.insert(name) {
            let reason = if name.is_empty() {
                "two ports have no name".to_owned()
            } else {
                format!("two ports are called {name:?}")
            };
            return Err(Rejected::new(
                field(),
                reason,
                "give each port its own name",
            ));
        }
        let Some(mut port) = port(index, manifest, interner, notes)? else {
            continue;
        };
        port.node_port = node_port(index, manifest, service_type, notes)?;
        let twice = |field: &str, number: u16| {
            Rejected::new(
                format!("spec.ports[{index}].{field}"),
                format!("{} {number} is there twice", port.protocol.name()),
                "give each port its own number",
            )
        };
        if !numbers.insert((port.protocol, port.port)) {
            return Err(twice("port", port.port));
        }
        if let Some(number) = port.node_port
            && !node_ports.insert((port.protocol, number))
        {
            return Err(twice("nodePort", number));
        }
        ports.push(port);
    }
    Ok(ports)
}

/// None for a protocol that is not served; the other ports are.
fn port(
    index: usize,
    manifest: &ManifestPort,
    interner: &mut Interner,
    notes: &mut Vec<Rejected>,
) -> Result<Option<ServicePort>, Rejected> {
    let number = field::port(|| format!("spec.ports[{index}].port"), manifest.port)?;
    let Some(protocol) = protocol(
        || format!("spec.ports[{index}].protocol"),
        manifest.protocol.as_deref(),
        notes,
    )?
    else {
        return Ok(None);
    };
    let field = || format!("spec.ports[{index}].targetPort");
    let target = match &manifest.target_port {
        None | Some(IntOrString::Int(0)) => TargetPort::Number(number),
        Some(IntOrString::Int(target)) => TargetPort::Number(field::port(field, *target)?),
        Some(IntOrString::String(name)) => match field::port_name(field, Some(name))? {
            "" => TargetPort::Number(number),
            name => TargetPort::Name(interner.share(name)),
        },
    };
    let name = interner.share(manifest.name.as_deref().unwrap_or_default());
    Ok(Some(ServicePort {
        name,
        protocol,
        port: number,
        target,
        node_port: None,
    }))
}

/// None and 0 are none. One that the type has no use for is told and left out.
fn node_port(
    index: usize,
    manifest: &ManifestPort,
    service_type: ServiceType,
    notes: &mut Vec<Rejected>,
) -> Result<Option<u16>, Rejected> {
    let field = || format!("spec.ports[{index}].nodePort");
    let Some(number) = manifest.node_port.filter(|number| *number != 0) else {
        return Ok(None);
    };
    let number = field::port(field, number)?;
    match service_type {
        ServiceType::NodePort | ServiceType::LoadBalancer => Ok(Some(number)),
        ServiceType::ClusterIp | ServiceType::ExternalName => {
            let reason = format!(
                "{number} is not served: the type is {}",
                service_type.name()
            );
            let fix = "remove it, or give the type NodePort or LoadBalancer";
            notes.push(Rejected::new(field(), reason, fix));
            Ok(None)
        }
    }
}

/// TCP unless something else is said; SCTP is noted and left out.
pub(super) fn protocol(
    field: impl Fn() -> String,
    text: Option<&str>,
    notes: &mut Vec<Rejected>,
) -> Result<Option<Protocol>, Rejected> {
    match text {
        None | Some("" | "TCP") => Ok(Some(Protocol::Tcp)),
        Some("UDP") => Ok(Some(Protocol::Udp)),
        Some("SCTP") => {
            notes.push(Rejected::new(
                field(),
                "SCTP is not served; the other ports are",
                "use TCP or UDP",
            ));
            Ok(None)
        }
        Some(other) => Err(Rejected::new(
            field(),
            format!("{other:?} is no protocol"),
            "give TCP or UDP",
        )),
    }
}

fn affinity(spec: &ServiceSpec) -> Result<Option<u32>, Rejected> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => return Ok(None),
        Some("ClientIP") => {}
        Some(other) => {
            let reason = format!("{other:?} is no session affinity");
            return Err(Rejected::new(
                "spec.sessionAffinity",
                reason,
                "give None or ClientIP",
            ));
        }
    }
    let config = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref());
    match config.and_then(|client_ip| client_ip.timeout_seconds) {
        None => Ok(Some(AFFINITY_DEFAULT)),
        Some(seconds) if (1..=AFFINITY_MOST).contains(&seconds) => Ok(Some(seconds.unsigned_abs())),
        Some(seconds) => Err(Rejected::new(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            format!("{seconds} is out of range"),
            "give 1 to 86400",
        )),
    }
}
