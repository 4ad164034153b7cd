//! Endpoints from EndpointSlices: a slice serves the service port whose name and protocol one of its ports has.

use mesh_common::{Address, Port};

use super::{
    Family, Target,
    endpoints::{Endpoints, Facts, Use},
    here::Here,
    suspects::Suspects,
    topology::Hint,
};
use crate::model::{Endpoint, EndpointSlice, ServicePort};

/// Adds what one slice has for a service port in one family.
pub(super) fn add(
    endpoints: &mut Endpoints,
    slice: &EndpointSlice,
    port: &ServicePort,
    family: Family,
    here: &Here<'_>,
    suspects: &mut Suspects,
) {
    let Some(serving) = slice
        .ports
        .iter()
        .find(|own| own.name == port.name && own.protocol == port.protocol)
    else {
        return;
    };
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let address = Address::from(endpoint.address);
        if Family::of(address) != family {
            continue;
        }
        let target = Target {
            address,
            port: Port::new(serving.port),
        };
        let facts = facts(endpoint, here);
        if !endpoints.add(target, facts) {
            suspects.contradicts(&slice.name, index, address);
        }
        if endpoint.node.is_none() && facts.usable != Use::Keep {
            suspects.lacks_node(&slice.name, index, address);
        }
    }
}

/// An endpoint as this node sees it. Without nodeName it is on no node.
pub(super) fn facts(endpoint: &Endpoint, here: &Here<'_>) -> Facts {
    let hints = endpoint.hints.as_deref();
    Facts {
        usable: Use::of(endpoint.ready, endpoint.serving, endpoint.terminating),
        local: endpoint.node.as_deref() == Some(here.node),
        node: hints.map_or(Hint::Missing, |it| Hint::of(&it.nodes, Some(here.node))),
        zone: hints.map_or(Hint::Missing, |it| Hint::of(&it.zones, here.zone)),
    }
}
