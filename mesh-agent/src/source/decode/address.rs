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

/// What an endpoint may be: other nodes have to reach it, and a loopback address would lead clients to what their own
/// host meant for itself. The API refuses these too.
pub(super) fn reachable(field: impl Fn() -> String, address: IpAddr) -> Result<(), Rejected> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_loopback() || link_local {
        return Err(Rejected::new(
            field(),
            format!("{address} means another place on each node"),
            "give an address that every node reaches",
        ));
    }
    Ok(())
}
