//! IP addresses in manifests.

use std::net::IpAddr;

use super::field::Rejected;

/// An address that can be a peer's. IPv4 written as IPv6 is taken as IPv4 nowhere: the API refuses it too.
pub(super) fn parse(field: impl Fn() -> String, text: &str) -> Result<IpAddr, Rejected> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return Err(Rejected::new(
            field(),
            format!("{text:?} is no IP address"),
            "give an IPv4 or IPv6 address",
        ));
    };
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if address.is_unspecified() || address.is_multicast() || mapped {
        return Err(Rejected::new(
            field(),
            format!("{text} can be nobody's address"),
            "give a unicast address",
        ));
    }
    Ok(address)
}

/// A Service's own address. One that each host has for itself would take that from every host.
pub(super) fn service(field: impl Fn() -> String, text: &str) -> Result<IpAddr, Rejected> {
    let address = parse(&field, text)?;
    if address.is_loopback() || is_link_local(address) {
        return Err(elsewhere(
            field(),
            address,
            "give an address that no host has",
        ));
    }
    Ok(address)
}

/// Where a Pod or an endpoint is: every node has to reach it. Loopback is each client's own, which the API refuses; with
/// manifests alone it has its uses, so it is served and noted.
pub(super) fn endpoint(
    field: impl Fn() -> String,
    text: &str,
    notes: &mut Vec<Rejected>,
) -> Result<IpAddr, Rejected> {
    const FIX: &str = "give an address that every node reaches";
    let address = parse(&field, text)?;
    if is_link_local(address) {
        return Err(elsewhere(field(), address, FIX));
    }
    if address.is_loopback() {
        notes.push(elsewhere(field(), address, FIX));
    }
    Ok(address)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn elsewhere(field: String, address: IpAddr, fix: &'static str) -> Rejected {
    let reason = format!("{address} means another place on each node");
    Rejected::new(field, reason, fix)
}
