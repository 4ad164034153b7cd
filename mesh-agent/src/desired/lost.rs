//! Frontends that an object asks for and another holds. In: each as it is come upon. Out: a finding for each address, holder
//! and field, however many ports it is about.

use std::collections::BTreeMap;

use mesh_common::{FrontendKey, Protocol};

use super::{Finding, Weight};
use crate::{
    model::ObjectId,
    store::{Exposure, Store},
};

/// First port and number of ports, by field, address and holder.
#[derive(Debug, Default)]
pub(super) struct Lost(BTreeMap<Place, (FrontendKey, usize)>);

/// Of all of the node's addresses only the first is named.
type Place = (Exposure, Option<mesh_common::Address>, ObjectId);

impl Lost {
    /// Whether the owner holds the frontend; if another does, that is noted.
    pub(super) fn wins(
        &mut self,
        store: &Store,
        owner: &ObjectId,
        key: &FrontendKey,
        exposure: Exposure,
    ) -> bool {
        let Some(winner) = store.winner(key) else {
            return false;
        };
        if winner == owner {
            return true;
        }
        let address = match exposure {
            Exposure::NodePort | Exposure::HostPort => None,
            Exposure::ClusterIp | Exposure::ExternalIp | Exposure::LoadBalancerIp => {
                Some(key.address())
            }
        };
        let place = (exposure, address, winner.clone());
        self.0.entry(place).or_insert((*key, 0)).1 += 1;
        false
    }

    pub(super) fn findings(self, owner: &ObjectId) -> Vec<Finding> {
        let finding = |((exposure, _, winner), (key, count)): (Place, (FrontendKey, usize))| {
            let more = match count {
                1 => String::new(),
                more => format!(" and {} more", more - 1),
            };
            let protocol = Protocol::from_number(key.protocol()).map_or("", Protocol::name);
            Finding {
                object: owner.clone(),
                field: field(exposure).to_owned(),
                reason: format!(
                    "{} port {}/{protocol}{more} belongs to {winner}, which is older or, of one age, first by name",
                    key.address(),
                    key.port(),
                ),
                fix: fix(exposure).to_owned(),
                weight: Weight::Problem,
            }
        };
        self.0.into_iter().map(finding).collect()
    }
}

const fn field(exposure: Exposure) -> &'static str {
    match exposure {
        Exposure::ClusterIp => "spec.clusterIPs",
        Exposure::NodePort => "spec.ports[].nodePort",
        Exposure::ExternalIp => "spec.externalIPs",
        Exposure::LoadBalancerIp => "status.loadBalancer.ingress",
        Exposure::HostPort => "spec.containers[].ports[].hostPort",
    }
}

const fn fix(exposure: Exposure) -> &'static str {
    match exposure {
        Exposure::ClusterIp => "give one of the two another ClusterIP, or delete it",
        Exposure::NodePort => "give one of the two another node port",
        Exposure::ExternalIp => "give one of the two another address or port",
        Exposure::LoadBalancerIp => "let the load balancer give one of the two another address",
        Exposure::HostPort => "give one of the two another host port, or run it on another node",
    }
}
