//! Node.

use k8s_openapi::api::core::v1::Node as Manifest;

use super::{
    address,
    field::Rejected,
    metadata::{self, Interner},
};
use crate::model::Node;

/// Set by the cluster's autoscaler (kube-proxy's health check looks at it, too).
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
const ZONE: &str = "topology.kubernetes.io/zone";

pub(super) fn convert(
    manifest: &Manifest,
    interner: &mut Interner,
    notes: &mut Vec<Rejected>,
) -> Result<Node, Rejected> {
    let name = metadata::cluster_name(&manifest.metadata, interner)?;
    let (mut addresses, mut internal) = (Vec::new(), Vec::new());
    let all = manifest
        .status
        .as_ref()
        .and_then(|status| status.addresses.as_deref())
        .unwrap_or_default();
    for (index, entry) in all.iter().enumerate() {
        if matches!(entry.type_.as_str(), "InternalIP" | "ExternalIP") {
            match address::parse(
                || format!("status.addresses[{index}].address"),
                &entry.address,
            ) {
                Ok(address) => {
                    addresses.push(address);
                    internal.extend((entry.type_ == "InternalIP").then_some(address));
                }
                // The node's other addresses are good all the same.
                Err(rejected) => notes.push(rejected),
            }
        }
    }
    let zone = manifest
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(ZONE));
    let taints = manifest.spec.iter().flat_map(|spec| spec.taints.iter());
    let mut taints = taints.flatten();
    let leaving = manifest.metadata.deletion_timestamp.is_some()
        || taints.any(|taint| taint.key == TO_BE_DELETED);
    Ok(Node {
        name,
        addresses,
        internal,
        leaving,
        zone: zone.map(|zone| interner.share(zone)),
    })
}
