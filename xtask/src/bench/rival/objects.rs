//! The objects of the comparison: many Services of ten endpoints, and the one whose endpoint is changed. Pure.
//!
//! Some of the Services have real endpoints, so that whichever place a proxy gives them can be called; every other one
//! has ten addresses of its own where nobody is.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use mesh_lab::{Endpoint, Port, Service, Slice};
use serde_json::{Value, json};

pub(super) const ENDPOINTS: u32 = 10;
/// How many of the Services have real endpoints.
const REAL: u32 = 64;
pub(super) const TARGET: u16 = 8080;
/// Where the witnesses of a change listen.
pub(super) const WITNESS: u16 = 8090;
const PORT: u16 = 80;
/// Inside the API server's range for Services, apart from the addresses that it gives out itself.
const SERVICES: Ipv4Addr = Ipv4Addr::new(10, 96, 16, 0);
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);
/// Of each Service, for its endpoints over time.
const ADDRESSES: u32 = 64;
/// The number of the Service whose only endpoint is changed.
pub(super) const PROBE: u32 = 0;

/// The numbers of the Services that have real endpoints: `REAL` of them, evenly spread, first and last included.
pub(super) fn real(services: u32) -> BTreeSet<u32> {
    let steps = services.clamp(2, REAL) - 1;
    let number = |step: u32| 1 + u64::from(services - 1) * u64::from(step) / u64::from(steps);
    (0..=steps)
        .filter_map(|step| u32::try_from(number(step)).ok())
        .collect()
}

pub(super) fn name(number: u32) -> String {
    format!("web-{number}")
}

/// Where a Service is called.
pub(super) fn frontend(number: u32) -> SocketAddr {
    SocketAddr::new(offset(SERVICES, number), PORT)
}

pub(super) fn service(number: u32) -> Value {
    Service::new(
        &name(number),
        &[frontend(number).ip()],
        &[Port::tcp("http", PORT, target(number))],
    )
    .json()
}

pub(super) fn slice(number: u32, endpoints: &[IpAddr]) -> Value {
    let ports = [Port::tcp("http", PORT, target(number))];
    let endpoints: Vec<Endpoint> = endpoints.iter().copied().map(Endpoint::ready).collect();
    Slice::new(&name(number), &name(number), &ports, &endpoints).json()
}

/// A merge patch that gives a slice other endpoints.
pub(super) fn endpoints_patch(number: u32, endpoints: &[IpAddr]) -> Value {
    json!({"endpoints": slice(number, endpoints)["endpoints"]})
}

/// The endpoints of a Service where nobody is. The `pass` tells one state of its last endpoint from the next.
pub(super) fn nobody(number: u32, pass: u32) -> Vec<IpAddr> {
    let first = number * ADDRESSES;
    let last = first + ENDPOINTS - 1 + pass % (ADDRESSES - ENDPOINTS);
    (first..first + ENDPOINTS - 1)
        .chain([last])
        .map(|address| offset(NOBODY, address))
        .collect()
}

const fn target(number: u32) -> u16 {
    if number == PROBE { WITNESS } else { TARGET }
}

fn offset(base: Ipv4Addr, by: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(base) + by).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_services_are_spread_from_first_to_last() {
        assert_eq!(real(1), BTreeSet::from([1]));
        assert_eq!(real(3), BTreeSet::from([1, 2, 3]));
        let many = real(10_000);
        assert_eq!(many.len(), 64);
        assert_eq!((many.first(), many.last()), (Some(&1), Some(&10_000)));
    }

    #[test]
    fn a_pass_changes_one_endpoint_and_no_address_is_shared() {
        let (even, odd) = (nobody(7, 0), nobody(7, 1));
        assert_eq!(even.len(), 10);
        assert_eq!(even[..9], odd[..9]);
        assert_ne!(even[9], odd[9]);
        let next = nobody(8, 0);
        assert!(
            even.iter()
                .chain(&odd)
                .all(|address| !next.contains(address))
        );
    }
}
