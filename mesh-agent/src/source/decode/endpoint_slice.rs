//! EndpointSlice.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroU64,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::{
    api::core::v1::ObjectReference,
    api::discovery::v1::{
        Endpoint as ManifestEndpoint, EndpointHints, EndpointPort, EndpointSlice as Manifest,
    },
    jiff::Timestamp,
};

use super::{
    address,
    field::{self, Rejected},
    metadata::{self, Interner},
    service::protocol,
};
use crate::model::{Endpoint, EndpointSlice, Hints, SlicePort};

/// The API's own bound.
const MOST_ENDPOINTS: usize = 1000;
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const HEADLESS: &str = "service.kubernetes.io/headless";

pub(super) fn convert(
    manifest: &Manifest,
    interner: &mut Interner,
    notes: &mut Vec<Rejected>,
) -> Result<Option<EndpointSlice>, Rejected> {
    let name = metadata::name(&manifest.metadata, interner)?;
    let label = |key: &str| {
        manifest
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key))
    };
    let v6 = match manifest.address_type.as_str() {
        "IPv4" => false,
        "IPv6" => true,
        "FQDN" => {
            notes.push(Rejected::new(
                "addressType",
                "names are not served",
                "use IPv4 or IPv6",
            ));
            return Ok(None);
        }
        other => {
            let reason = format!("{other:?} is no type of address");
            return Err(Rejected::new("addressType", reason, "give IPv4 or IPv6"));
        }
    };
    let manifests = manifest.endpoints.as_deref().unwrap_or_default();
    if manifests.len() > MOST_ENDPOINTS {
        let reason = format!(
            "{} endpoints are more than {MOST_ENDPOINTS}",
            manifests.len()
        );
        return Err(Rejected::new("endpoints", reason, "split the slice"));
    }
    let mut endpoints = Vec::with_capacity(manifests.len());
    for (index, manifest) in manifests.iter().enumerate() {
        endpoints.push(endpoint(index, manifest, v6, interner, notes)?);
    }
    Ok(Some(EndpointSlice {
        name,
        // A headless Service has no address of its own; that its endpoints are alive counts for others that have them.
        service: label(SERVICE_NAME)
            .filter(|_| label(HEADLESS).is_none())
            .map(|service| service.as_str().into()),
        ports: ports(
            manifest.ports.as_deref().unwrap_or_default(),
            interner,
            notes,
        )?,
        endpoints,
        triggered: triggered(manifest),
    }))
}

/// Uids are compared and never shown, so a number is enough; it is the same in each run.
fn pod(reference: &ObjectReference) -> Option<NonZeroU64> {
    let mut hasher = DefaultHasher::new();
    reference.uid.as_ref()?.hash(&mut hasher);
    NonZeroU64::new(hasher.finish())
}

/// One that does not parse is of no use, and does no harm.
fn triggered(manifest: &Manifest) -> Option<SystemTime> {
    let annotations = manifest.metadata.annotations.as_ref()?;
    let timestamp: Timestamp = annotations.get(TRIGGER_TIME)?.parse().ok()?;
    let since = u64::try_from(timestamp.as_nanosecond()).ok()?;
    Some(UNIX_EPOCH + Duration::from_nanos(since))
}

fn ports(
    manifests: &[EndpointPort],
    interner: &mut Interner,
    notes: &mut Vec<Rejected>,
) -> Result<Vec<SlicePort>, Rejected> {
    let mut names = BTreeSet::new();
    let mut ports = Vec::with_capacity(manifests.len());
    for (index, manifest) in manifests.iter().enumerate() {
        let protocol = protocol(
            || format!("ports[{index}].protocol"),
            manifest.protocol.as_deref(),
            notes,
        )?;
        let Some(number) = manifest.port else {
            notes.push(Rejected::new(
                format!("ports[{index}].port"),
                "a port without a number is not used",
                "give it one",
            ));
            continue;
        };
        let port = field::port(|| format!("ports[{index}].port"), number)?;
        let field = || format!("ports[{index}].name");
        let name = field::port_name(field, manifest.name.as_deref())?;
        if !names.insert(name) {
            let reason = format!("two ports are called {name:?}");
            let fix = "give each port its own name";
            return Err(Rejected::new(field(), reason, fix));
        }
        if let Some(protocol) = protocol {
            ports.push(SlicePort {
                name: interner.share(name),
                protocol,
                port,
            });
        }
    }
    Ok(ports)
}

fn endpoint(
    index: usize,
    manifest: &ManifestEndpoint,
    v6: bool,
    interner: &mut Interner,
    notes: &mut Vec<Rejected>,
) -> Result<Endpoint, Rejected> {
    let field = || format!("endpoints[{index}].addresses[0]");
    let Some(text) = manifest.addresses.first() else {
        return Err(Rejected::new(
            format!("endpoints[{index}].addresses"),
            "there is none",
            "give one address",
        ));
    };
    let address = address::endpoint(field, text, notes)?;
    if address.is_ipv6() != v6 {
        let reason = format!("{address} is not of the slice's addressType");
        return Err(Rejected::new(
            field(),
            reason,
            "put each family into slices of its own",
        ));
    }
    let conditions = manifest.conditions.as_ref();
    let ready = conditions
        .and_then(|conditions| conditions.ready)
        .unwrap_or(true);
    Ok(Endpoint {
        address,
        pod: manifest.target_ref.as_ref().and_then(pod),
        ready,
        serving: conditions
            .and_then(|conditions| conditions.serving)
            .unwrap_or(true),
        terminating: conditions
            .and_then(|conditions| conditions.terminating)
            .unwrap_or(false),
        node: manifest
            .node_name
            .as_deref()
            .map(|node| interner.share(node)),
        hints: manifest.hints.as_ref().and_then(|it| hints(it, interner)),
    })
}

fn hints(manifest: &EndpointHints, interner: &mut Interner) -> Option<Box<Hints>> {
    let zones = manifest.for_zones.iter().flatten();
    let zones: Vec<_> = zones.map(|zone| interner.share(&zone.name)).collect();
    let nodes = manifest.for_nodes.iter().flatten();
    let nodes: Vec<_> = nodes.map(|node| interner.share(&node.name)).collect();
    let is_empty = zones.is_empty() && nodes.is_empty();
    (!is_empty).then(|| Box::new(Hints { zones, nodes }))
}
