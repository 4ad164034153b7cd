//! Endpoints from EndpointSlices: a slice serves the service port whose name and protocol one of its ports has.

use mesh_common::{Address, Port};

use super::{
    Family, Target,
    contradiction::Contradictions,
    endpoints::{Endpoints, Use},
};
use crate::model::{EndpointSlice, ServicePort};

/// Adds what one slice has for a service port in one family.
pub(super) fn add(
    endpoints: &mut Endpoints,
    slice: &EndpointSlice,
    port: &ServicePort,
    family: Family,
    contradictions: &mut Contradictions,
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
        let usable = Use::of(endpoint.ready, endpoint.serving, endpoint.terminating);
        if !endpoints.add(target, usable) {
            contradictions.add(&slice.name, index, address);
        }
    }
}
