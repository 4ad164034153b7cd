//! Which Services ask for a frontend, and who gets it: the older one, then the first by name.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use mesh_common::{FrontendKey, Port};

use crate::model::{ObjectName, Service, ServiceType};

/// One Service's wish for one frontend. The order makes the first claim of a key the winner's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    key: FrontendKey,
    /// Without a creationTimestamp a Service counts as youngest.
    created: i64,
    service: ObjectName,
}

/// Every claim.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims(BTreeSet<Claim>);

impl Claims {
    pub(super) fn winner(&self, key: &FrontendKey) -> Option<&ObjectName> {
        let first = Claim {
            key: *key,
            created: i64::MIN,
            service: ObjectName {
                namespace: Arc::default(),
                name: Arc::default(),
            },
        };
        self.0
            .range(first..)
            .next()
            .filter(|claim| claim.key == *key)
            .map(|claim| &claim.service)
    }

    /// A Service is another now. Those that win or lose a frontend by that are added to `touched`.
    pub(super) fn replace(
        &mut self,
        old: Option<&Service>,
        new: Option<&Service>,
        touched: &mut BTreeSet<ObjectName>,
    ) {
        let old: BTreeSet<Claim> = old.into_iter().flat_map(claims).collect();
        let new: BTreeSet<Claim> = new.into_iter().flat_map(claims).collect();
        for claim in old.difference(&new) {
            self.0.remove(claim);
            touched.extend(self.winner(&claim.key).cloned());
        }
        for claim in new.difference(&old) {
            touched.extend(self.winner(&claim.key).cloned());
            self.0.insert(claim.clone());
        }
    }
}

/// The ClusterIPs that are served.
pub(crate) fn served_addresses(service: &Service) -> &[IpAddr] {
    match service.service_type {
        ServiceType::ExternalName => &[],
        ServiceType::ClusterIp | ServiceType::NodePort | ServiceType::LoadBalancer => {
            &service.cluster_ips
        }
    }
}

/// Each port of each ClusterIP.
pub(crate) fn served_ports(service: &Service) -> impl Iterator<Item = FrontendKey> {
    served_addresses(service).iter().flat_map(|address| {
        service.ports.iter().map(|port| {
            FrontendKey::new(
                (*address).into(),
                Port::new(port.port),
                port.protocol.number(),
            )
        })
    })
}

/// Each port of each ClusterIP, and each ClusterIP as a whole.
fn claims(service: &Service) -> impl Iterator<Item = Claim> {
    let addresses = served_addresses(service).iter();
    let whole = addresses.map(|address| FrontendKey::whole_address((*address).into()));
    served_ports(service).chain(whole).map(|key| Claim {
        key,
        created: service.created.unwrap_or(i64::MAX),
        service: service.name.clone(),
    })
}
